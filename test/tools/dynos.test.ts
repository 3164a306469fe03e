import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'tap';
import { kill, stop, until } from '../../tools/processes.ts';
import { startMemcached } from '../support/memcached.ts';
import { childrenOf, gone, run, startDynos, type Dynos } from '../support/tools.ts';

/** Which dynos answer, by so many requests that none is left out. */
async function answering({ url }: Dynos): Promise<string[]> {
  const names = new Set<string>();
  for (let i = 0; i < 100; i++) {
    const response = await fetch(url, { method: 'HEAD' });
    names.add(response.headers.get('x-dyno') ?? '');
  }
  return [...names].sort();
}

await test('five dynos run, and typing scales and restarts them without losing a request', async (t) => {
  const dynos = await startDynos(t);
  const started = childrenOf(dynos.child);
  t.equal(started.size, 6, 'five dynos and memcached');
  t.same(dynos.lines.slice(-2), [`Open ${dynos.url}`, ''], 'the address comes last');
  t.equal(dynos.lines.filter((line) => line.includes('http://')).length, 1, 'and is the only one');
  t.same(await answering(dynos), ['web.1', 'web.2', 'web.3', 'web.4', 'web.5']);

  const proof = run('verify', [dynos.url, '--requests', '2000', '--concurrency', '20']);
  await dynos.says(/^Scaled to 2 dynos$/, 'web=2');
  t.same(await answering(dynos), ['web.1', 'web.2']);
  t.equal(dynos.lines.filter((line) => /local\[web\.[345]\]: down, ended with status 0/.test(line)).length, 3);
  await dynos.says(/^Restarted web\.2$/, 'restart web.2');
  await dynos.says(/^Scaled to 3 dynos$/, ' 3 ');
  t.same(await answering(dynos), ['web.1', 'web.2', 'web.3']);
  t.match(await proof, { status: 0, out: 'each number from 1 to 2000 came exactly once' });

  await dynos.says(/^  restart web\.1 +restarts a dyno$/, 'help');
  await dynos.says(/^There is no web\.9; web\.1, web\.2, web\.3 run$/, 'restart web.9');
  await dynos.says(/^At least one dyno has to run: web=1$/, '0');
  await dynos.says(/^"more!" is not an order\. Type:$/, 'more!');

  const all = [...started.keys(), ...childrenOf(dynos.child).keys()];
  dynos.child.kill('SIGINT');
  dynos.child.kill('SIGINT');
  t.equal(await stop(dynos.child, 'SIGINT'), 0);
  await gone(all);
});

await test('a dyno or memcached that crashes is reported and starts again', async (t) => {
  const dynos = await startDynos(t, ['web=2']);
  const { url } = dynos;
  const children = childrenOf(dynos.child);
  const find = (what: RegExp): number | undefined => [...children].find(([, command]) => what.test(command))?.[0];

  const crashed = dynos.says(/local\[web\.[12]\]: crashed, ended with SIGKILL; starts again in 1 s/);
  const up = dynos.says(/local\[web\.[12]\]: up/);
  kill(find(/server\.js/), 'SIGKILL');
  const [, name = ''] = /(web\.\d)/.exec(await crashed) ?? [];
  for (let i = 0; i < 20; i++) t.equal((await fetch(url)).status, 200, `${name} is not asked`);
  await up;
  t.same(await answering(dynos), ['web.1', 'web.2']);

  const lost = dynos.says(/local\[memcached\]: crashed, ended with SIGKILL; starts again in 1 s, with no counts/);
  kill(find(/^memcached|\/memcached/), 'SIGKILL');
  await lost;
  t.equal((await fetch(url)).status, 503);
  await until('the counts are back', async () => (await fetch(url)).status === 200);
});

await test('the store that the environment names is used, and SIGTERM ends all but that', async (t) => {
  const memcached = await startMemcached(t);
  const { child, url, lines } = await startDynos(t, ['1', '--https'], { MEMCACHE_SERVERS: memcached.address });
  t.ok(
    lines.some((line) => line.startsWith('1 dyno up, with the counts in the Memcached that MEMCACHE_SERVERS names')),
  );
  t.match(await run('verify', [url, '--requests', '20']), { status: 0, out: 'from 1 to 20 came exactly once, over 1' });
  const children = childrenOf(child);
  t.equal(children.size, 1, 'one dyno and nothing else');
  t.equal(await stop(child), 0);
  await gone(children.keys());
  t.equal((await memcached.stats()).get('curr_items'), '1');
});

await test('dynos that each count for themselves are found out', async (t) => {
  const { url } = await startDynos(t, ['web=2', '--memory']);
  t.match(await run('verify', [url]), {
    status: 1,
    out: /^Disproved: the count fell back to 1 at greeting \d+, answered by web\.[12]: the dynos do not share a store\.$/m,
  });
});

await test('one line says why the dynos do not start', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const port = String((server.address() as AddressInfo).port);
  const cases: [args: string[], env: Record<string, string>, status: number, err: RegExp][] = [
    [[], { PORT: port }, 1, /^PORT \d+ is in use; PORT=\d+ npm run dynos takes another\n$/],
    [[], { PORT: 'http' }, 1, /^PORT is "http"; it must be a port .*\n$/],
    [[], { PORT: '0', PATH: '' }, 1, /^memcached is not installed; "apt-get.*adds it; npm run dynos -- --memory .*\n$/],
    [[], { SESSION_TTL: 'long' }, 1, /^SESSION_TTL is "long"; .*\n$/],
    [['web=0'], {}, 2, /^At least one dyno has to run: web=1\. See npm run dynos -- --help\n$/],
    [['21'], {}, 2, /^21 dynos are too many for one machine; the most is web=20\./],
    [['five'], {}, 2, /^"five" is not a number of dynos, such as 7 or web=7\./],
    [['web=1', 'web=2'], {}, 2, /^Give one number of dynos, not web=1 web=2\./],
    [['--what'], {}, 2, /^Unknown option '--what'\. See npm run/],
    [['--help'], {}, 0, /^$/],
  ];
  const outcomes = await Promise.all(cases.map(([args, env]) => run('dynos', args, env)));
  for (const [index, [args, , status, err]] of cases.entries()) {
    t.match(outcomes[index], { status, err }, `npm run dynos -- ${args.join(' ')}`);
  }
});
