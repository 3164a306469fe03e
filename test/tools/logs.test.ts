import { test } from 'tap';
import { logTo } from '../../tools/logs.ts';

await test('on a terminal each dyno has its colour', (t) => {
  let written = '';
  const out = { isTTY: true, hasColors: () => true, write: (line: string) => (written += line) };
  const log = logTo(out);
  log('app', 'web.1', 'one');
  log('local', 'web.2', 'two');
  log('local', 'web.1', 'three');
  t.match(
    written,
    /^\x1b\[32m20\S+ app\[web\.1\]:\x1b\[0m one\n\x1b\[33m.*web\.2\]:\x1b\[0m two\n\x1b\[32m.* three\n$/,
  );
  written = '';
  logTo({ ...out, hasColors: () => false })('app', 'web.1', 'one');
  t.match(written, /^20\S+ app\[web\.1\]: one\n$/);
  t.end();
});
