import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';
import { test } from 'tap';
import { stop, until } from '../../tools/processes.ts';
import { startMemcached } from '../support/memcached.ts';
import { startProgram, type Owner, type Program } from '../support/program.ts';
import { listening, UNCOVERED } from '../support/web.ts';
import { childrenOf, gone, inTerminal, run, startDynos, type Dynos } from '../support/tools.ts';

const TOOL = 'build/tools/dynos.js';

/** Sends a signal to the process with this id. Fails if there is none. */
function kill(pid: number | undefined, signal: NodeJS.Signals): void {
  execFileSync('kill', ['-s', signal.slice(3), String(pid)]);
}

/** A visitor of the dynos, until SIGINT asks for what it has seen. */
function visit(t: Owner, { url }: Dynos): Program {
  return startProgram(t, [process.execPath, 'build/tools/verify.js', url, '--for', '60s'], {});
}

/** Which dynos answer, by so many requests that none is left out. */
async function answering({ url }: Pick<Dynos, 'url'>): Promise<string[]> {
  const names = new Set<string>();
  for (let i = 0; i < 100; i++) {
    const response = await fetch(url, { method: 'HEAD' });
    names.add(response.headers.get('x-dyno') ?? '');
  }
  return [...names].sort();
}

await test('five dynos run, and typing scales and restarts them without losing a request', async (t) => {
  const dynos = await startDynos(t, [], {}, true);
  const [pid] = childrenOf(dynos.child.pid).keys();
  const started = childrenOf(pid);
  t.equal(started.size, 6, 'five dynos and memcached');
  t.match(dynos.lines.at(-1), /^5 dynos up, with the counts in memcached at 127\.0\.0\.1:\d+$/);
  t.equal(dynos.lines.filter((line) => line.includes('http://')).length, 0, 'the address is below, in the prompt');
  const thousand = await run('verify', [dynos.url, '--requests', '1001', '--concurrency', '1000']);
  t.match(thousand, { status: 0, out: 'each number from 1 to 1001 came exactly once, over 5 dynos' });

  const visitor = visit(t, dynos);
  await dynos.says(/router\]: web/);
  await dynos.says(/^Scaled to 2 dynos$/, 'web=2');
  t.same(await answering(dynos), ['web.1', 'web.2']);
  t.equal(dynos.lines.filter((line) => /local\[web\.[345]\]: exited \(status 0\)/.test(line)).length, 3);
  await dynos.says(/^Restarted web\.2$/, 'restart web.2');
  await dynos.says(/^Scaled to 3 dynos$/, ' 3 ');
  t.same(await answering(dynos), ['web.1', 'web.2', 'web.3']);
  visitor.child.kill('SIGINT');
  t.equal(await visitor.ended, 0);
  t.match(visitor.out(), /none came twice, and none was lower .*\.\nNo request failed\.$/m);
  t.ok(dynos.lines.some((line) => /local\[router\]: web\.1 \d+, web\.2 \d+/.test(line)));
  t.notOk(dynos.lines.some((line) => line.includes('at=info')));
  await dynos.says(/^Each request is shown$/, 'log');
  dynos.type('rest');
  const shown = dynos.says(/at=info method=GET path="\/" dyno=web\.\d service=\d+ms status=200$/);
  await fetch(dynos.url);
  await shown;
  await dynos.says(/^Open \S+ or type help: rest$/);
  await dynos.says(/^Restarted web\.1$/, 'art web.1');

  await dynos.says(/^  restart web\.1 +restarts a dyno$/, 'help');
  await dynos.says(/^No dyno is named web\.9; running: web\.1, web\.2, web\.3$/, 'restart web.9');
  await dynos.says(/^At least one dyno has to run: web=1$/, '0');
  await dynos.says(/^Which one\? Type restart web\.1$/, 'restart');
  await dynos.says(/^Unknown command: more!; type help$/, 'more!');
  await dynos.says(/^Unknown command: store stall now; type help$/, 'store stall now');

  const all = [...started.keys(), ...childrenOf(pid).keys()];
  dynos.type('\x03');
  await until('it ends', () => dynos.child.exitCode === 0);
  await gone(all);
});

await test('the store can be stopped, started, stalled and resumed, and no number comes twice meanwhile', async (t) => {
  const dynos = await startDynos(t, ['2'], {}, true);
  const { url } = dynos;
  const visitor = visit(t, dynos);
  await dynos.says(/router\]: web/);
  await dynos.says(/^The store is stalled; type store resume$/, 'store stall');
  await dynos.says(/router\]: .*web\.\d \(503\) \d+/);
  await dynos.says(/^The store is running$/, 'store resume');
  await dynos.says(/^The store is running; type store stall or store stop$/, 'store start');
  await dynos.says(/^The store is stopped, and its counts are lost; type store start$/, 'store stop');
  t.equal((await fetch(url)).status, 503);
  await dynos.says(/^The store is stopped; type store start$/, 'store stall');
  await dynos.says(/^The store is running$/, 'store start');
  await until('the counts are back', async () => (await fetch(url)).status === 200);
  await dynos.says(/router\]: web\.\d \d+, web\.\d \d+$/);
  visitor.child.kill('SIGINT');
  t.equal(await visitor.ended, 0, visitor.out());
  t.match(
    visitor.out(),
    /^Proved: of \d+ numbers none came twice in its session.*\.\n\d+ of \d+ requests failed: .* 503 .*\.\nThe store forgot/m,
  );
  const logged = dynos.lines.filter((line) => line.includes('app['));
  t.ok(logged.length > 0);
  for (const line of logged) t.match(line, /app\[web\.\d\]: Memcached at \S+ is (not available: .*|available again)$/);
  dynos.type('\x04');
  await until('Ctrl-D ends it', () => dynos.child.exitCode === 0);
});

await test('without a store, help offers none, and exit ends it', async (t) => {
  const dynos = await startDynos(t, ['1', '--memory'], {}, true);
  await dynos.says(/^  log  /, 'help');
  t.notOk(dynos.lines.some((line) => line.startsWith('  store')));
  dynos.type('exit\r');
  await until('it ends', () => dynos.child.exitCode === 0);
});

await test('in the background, and where standard input is no terminal, nothing is read', async (t) => {
  const { child, url, lines } = await startDynos(t, ['1', '--memory']);
  await until('it says so', () => lines.includes('Commands can be typed only in a terminal.'));
  child.stdin?.write('web=2\n');
  child.stdin?.end();
  t.same(await answering({ url }), ['web.1']);
  child.kill('SIGINT');
  child.kill('SIGINT');
  t.equal(await stop(child, 'SIGINT'), 0);

  const command = `${process.execPath} ${TOOL} 1 --memory & wait $!`;
  const env = { ...UNCOVERED, PORT: '0', PATH: process.env.PATH };
  const background = startProgram(t, inTerminal(['bash', '-ic', command]), { env });
  await until('it is up', () => /^Open http/m.test(background.out()), 30_000);
  t.notMatch(background.out(), 'type help');
  const [shell] = childrenOf(background.child.pid).keys();
  const [dynos] = childrenOf(shell).keys();
  kill(dynos, 'SIGTERM');
  await background.ended;
});

await test('a dyno or memcached that crashes is reported and starts again', async (t) => {
  const dynos = await startDynos(t, ['web=2']);
  const { url } = dynos;
  const children = childrenOf(dynos.child.pid);
  const find = (what: RegExp): number | undefined => [...children].find(([, command]) => what.test(command))?.[0];

  const crashed = dynos.says(/local\[web\.[12]\]: exited \(SIGKILL\), restarting in 1 s$/);
  const up = dynos.says(/local\[web\.[12]\]: up/);
  kill(find(/server\.js/), 'SIGKILL');
  const [, name = ''] = /(web\.\d)/.exec(await crashed) ?? [];
  for (let i = 0; i < 20; i++) t.equal((await fetch(url)).status, 200, `${name} is not asked`);
  await up;
  t.same(await answering(dynos), ['web.1', 'web.2']);

  const lost = dynos.says(/local\[memcached\]: exited \(SIGKILL\), restarting in 1 s without its counts$/);
  kill(find(/^memcached|\/memcached/), 'SIGKILL');
  await lost;
  t.equal((await fetch(url)).status, 503);
  await until('the counts are back', async () => (await fetch(url)).status === 200);
});

await test('the store that the environment names is used, and SIGTERM ends all but that', async (t) => {
  const memcached = await startMemcached(t);
  const { child, url, lines } = await startDynos(t, ['1', '--https'], { MEMCACHE_SERVERS: memcached.address });
  t.match(lines.join('\n'), /^1 dyno up, with the counts in the Memcached that MEMCACHE_SERVERS names/m);
  t.match(await run('verify', [url, '--requests', '20']), { status: 0, out: 'from 1 to 20 came exactly once, over 1' });
  const children = childrenOf(child.pid);
  t.equal(children.size, 1, 'one dyno and nothing else');
  t.equal(await stop(child), 0);
  await gone(children.keys());
  t.equal((await memcached.stats()).get('curr_items'), '1');
});

await test('dynos that each count for themselves are found out', async (t) => {
  const { url, lines } = await startDynos(t, ['web=2', '--memory']);
  t.equal(lines.at(-1), `Open ${url}`, 'the address comes last');
  t.match(await run('verify', [url]), {
    status: 1,
    out: /^Failed: the count fell back to 1 at greeting \d+, answered by web\.[12]: the dynos do not share a store\.$/m,
  });
});

await test('one line says why the dynos do not start', async (t) => {
  const port = String(await listening(t, createServer()));
  const cases: [args: string[], env: Record<string, string>, status: number, err: RegExp][] = [
    [[], { PORT: port }, 1, /^PORT \d+ is in use; set PORT to another port\n$/],
    [[], { PORT: 'http' }, 1, /^PORT is "http"; it must be a port .*\n$/],
    [[], { PORT: '0', PATH: '' }, 1, /^memcached is not installed; npm run setup .*; npm run dynos -- --memory .*\n$/],
    [[], { SESSION_TTL: 'long' }, 1, /^SESSION_TTL is "long"; .*\n$/],
    [['web=0'], {}, 2, /^At least one dyno has to run: web=1\. See npm run dynos -- --help\n$/],
    [['21'], {}, 2, /^21 dynos are too many for one machine; at most web=20\./],
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
