import { execFileSync } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { test } from 'tap';
import { startMemcached, whyNoLogin } from '../../tools/memcached.ts';

await test('without SASL, as from Homebrew, memcached runs, and tests that log in can say why they do not', async (t) => {
  const real = execFileSync('sh', ['-c', 'command -v memcached'], { encoding: 'utf8' }).trim();
  const refusing = `#!/bin/sh
case " $* " in *" -S "*) echo 'This server is not built with SASL support.' >&2; exit 64 ;; esac
exec ${real} "$@"
`;
  const folder = t.testdir({ memcached: refusing });
  execFileSync('chmod', ['+x', join(folder, 'memcached')]);
  process.env.PATH = [folder, process.env.PATH].join(delimiter);
  t.equal(whyNoLogin(), 'this memcached was built without SASL');
  const memcached = await startMemcached();
  t.ok((await memcached.stats()).get('version'));
  await memcached.stop();
});
