import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { test, type Test } from 'tap';
import { startMemcached, withLogin } from './support/memcached.ts';
import { start, stop, until } from '../tools/processes.ts';
import { listening, systemEnvironment } from './support/web.ts';

const SERVER = fileURLToPath(new URL('../dist/server.js', import.meta.url));

/** A web process and all that it writes. */
interface Process {
  readonly written: () => string;
  readonly complained: () => string;
  readonly send: (text: string) => void;
  readonly stop: (signal?: NodeJS.Signals) => Promise<number | string | null>;
  /** Its exit status, when it ends without being stopped. */
  readonly ended: Promise<unknown>;
}

type Teardown = Pick<Test, 'teardown'>;

/** Starts a program with nothing in its environment but what is given, until the test ends. */
function run(t: Teardown, env: Record<string, string>, command = [process.execPath, SERVER]): Process {
  const [program = '', ...args] = command;
  const child = start(program, args, { env: { ...systemEnvironment(), ...env }, stdio: 'pipe' });
  t.teardown(() => stop(child, 'SIGKILL'));
  let [written, complained] = ['', ''];
  child.stdout?.on('data', (chunk) => (written += String(chunk)));
  child.stderr?.on('data', (chunk) => (complained += String(chunk)));
  return {
    written: () => written,
    complained: () => complained,
    send: (text) => child.stdin?.write(text),
    stop: (signal) => stop(child, signal),
    // Not before all is read that it wrote.
    ended: once(child, 'close').then(([status]: unknown[]) => status),
  };
}

/** Where a web process can be opened. */
async function urlOf(web: Process): Promise<string> {
  await until('it listens', () => /http:[^\n]*\n/.test(web.written()), 30_000);
  return /http:[^,]*/.exec(web.written())?.[0] ?? '';
}

/** What was logged, line by line. */
function logged(text: string): { level: number; msg: string; err?: { message: string } }[] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as ReturnType<typeof logged>[number]);
}

async function greet(
  url: string,
  headers: Record<string, string> = {},
  request: RequestInit = {},
): Promise<{ status: number; body: string; cookie: string }> {
  // A connection that is kept would hold up the end of the process.
  const response = await fetch(url, { ...request, headers: { ...headers, connection: 'close' } });
  const [cookie = ''] = response.headers.getSetCookie();
  return { status: response.status, body: await response.text(), cookie: cookie.replace(/;.*/, '') };
}

/** A connection on which a request was sent, or a part of one. */
async function connect(port: number, request: string): Promise<Socket> {
  const visitor = createConnection(port, '127.0.0.1').setEncoding('latin1');
  await once(visitor, 'connect');
  visitor.write(request);
  return visitor;
}

/** The next that comes on a connection. */
async function answer(visitor: Socket): Promise<string> {
  const [received] = (await once(visitor, 'data')) as [string];
  return received;
}

/** Arguments that make Node.js run code before the program. */
function preload(code: string): string[] {
  return ['--import', `data:text/javascript,${encodeURIComponent(code)}`];
}

await test('the first line says where to open it and where the counts live', async (t) => {
  const memcached = await startMemcached(t);
  const cases: [Record<string, string>, RegExp][] = [
    [{}, /http:\/\/localhost:\d+\/,.* memory$/],
    [{ HOST: '::1' }, /http:\/\/\[::1\]:\d+\/,.* memory$/],
    [{ HOST: '0.0.0.0' }, /http:\/\/localhost:\d+\/,.* memory$/],
    [{ HOST: '::' }, /http:\/\/localhost:\d+\/,.* memory$/],
    [{ HOST: '127.0.0.1', MEMCACHE_SERVERS: memcached.address }, /http:\/\/127\.0\.0\.1:\d+\/,.* 127\.0\.0\.1:\d+$/],
    [{ DYNO: 'web.1', COUNTERS: 'memory', MEMCACHIER_SERVERS: 'x' }, /http:\/\/localhost:\d+\/,.* memory$/],
  ];
  await Promise.all(
    cases.map(async ([env, line]) => {
      const web = run(t, { PORT: '0', ...env });
      const url = await urlOf(web);
      t.match(logged(web.written())[0], { level: 30, msg: line });
      t.match(await greet(url), { status: 200, body: 'Hello #1\n' }, 'it can be opened as it is printed');
      t.equal(await web.stop(), 0);
      const warnings = logged(web.written()).filter(({ level }) => level > 30);
      t.match(warnings, 'DYNO' in env ? [{ msg: /^COUNTERS=memory/ }] : []);
      t.equal(web.complained(), '');
    }),
  );
});

await test('on Heroku it listens on every address, IPv6 as well', async (t) => {
  const web = run(t, { PORT: '0', DYNO: 'web.1', COUNTERS: 'memory' });
  const { port } = new URL(await urlOf(web));
  for (const host of ['127.0.0.1', '[::1]']) t.equal((await greet(`http://${host}:${port}/`)).status, 200, host);
  t.equal(await web.stop(), 0);
});

/** Starts the web process on a terminal of its own. */
function runOnTerminal(t: Teardown, env: Record<string, string>, nodeArgs: readonly string[] = []): Process {
  const node = [process.execPath, ...nodeArgs, SERVER];
  const command =
    process.platform === 'darwin'
      ? ['-q', '/dev/null', ...node]
      : ['-qec', `exec ${node.map((argument) => `'${argument}'`).join(' ')}`, '/dev/null'];
  return run(t, { PORT: '0', ...env }, ['script', ...command]);
}

await test('on a terminal the log is plain lines of what changes, and Ctrl-C ends the process', async (t) => {
  const memcached = await startMemcached(t);
  const web = runOnTerminal(t, { MEMCACHE_SERVERS: memcached.address });
  const url = await urlOf(web);
  t.equal((await greet(url)).status, 200);
  await memcached.kill();
  t.equal((await greet(url)).status, 503);
  await until('the loss is logged', () => web.written().split('\n').length > 2);
  web.send('\x03');
  t.equal(await web.ended, 0);
  const [first, lost, ...others] = web.written().replaceAll('\r', '').replace('^C', '').trimEnd().split('\n');
  t.match(first, /^Hello #N is at http:\/\/localhost:\d+\/, with the counts in Memcached at 127\.0\.0\.1:\d+$/);
  t.match(lost, /^Memcached at 127\.0\.0\.1:\d+ [^{}]+$/);
  t.strictSame(others, [], 'no line for a request');
});

await test('on a terminal LOG_LEVEL=debug shows each request in plain words', async (t) => {
  const web = runOnTerminal(t, { LOG_LEVEL: 'debug' });
  await greet(await urlOf(web));
  await until('the answer is logged', () => web.written().includes('completed'));
  t.match(web.written(), /^incoming request GET \/\r\nrequest completed 200\r\n$/m);
  web.send('\x03');
  t.equal(await web.ended, 0);
});

await test('on a terminal an uncaught error is shown with its stack', async (t) => {
  const code = 'process.once("newListener", () => setImmediate(() => { throw new Error("a bug") }))';
  const web = runOnTerminal(t, {}, preload(code));
  t.equal(await web.ended, 1);
  t.match(web.written(), /Uncaught error; the process exits Error: a bug\r\n +at /);
});

await test('a refused environment: every complaint in a line of its own, status 1', async (t) => {
  const taken = String(await listening(t, createServer()));
  const refused: [Record<string, string>, RegExp[]][] = [
    [{ PORT: 'abc' }, [/^PORT is "abc"/]],
    [{ DYNO: 'web.1' }, [/^MEMCACHIER_SERVERS is not set.*heroku addons:create memcachier:dev/]],
    [{ MEMCACHIER_SERVERS: 'mc', MEMCACHIER_PASSWORD: 'hunter2' }, [/^MEMCACHIER_USERNAME is not set/]],
    [
      { PORT: '-1', SESSION_TTL: '1', LOG_LEVEL: '7', MEMCACHE_SERVERS: 'u:hunter2@mc', MEMCACHE_PASSWORD: 'hunter2' },
      [/^LOG_LEVEL/, /^MEMCACHE_SERVERS/, /^MEMCACHE_USERNAME/, /^PORT/, /^SESSION_TTL/],
    ],
    [{ DYNO: 'web.1', COUNTERS: 'memory', PORT: taken }, [new RegExp(`^PORT ${taken} is in use`)]],
    [{ PORT: taken }, [new RegExp(`^PORT ${taken} is in use; set PORT to another port, such as ${+taken + 1}$`)]],
    [{ HOST: '127.0.0.1', PORT: '65535' }, [/^PORT 65535 is in use; set PORT to another port, such as 65534$/]],
    [{ HOST: '192.0.2.1', PORT: '0' }, [/^PORT 0 on HOST 192\.0\.2\.1 cannot be used: .*EADDRNOTAVAIL/]],
    [{ HOST: 'nowhere.invalid', PORT: '0' }, [/^PORT 0 on HOST nowhere\.invalid cannot be used: ./]],
    [
      { MEMCACHE_SERVERS: 'mc', MEMCACHE_USERNAME: 'u', MEMCACHE_PASSWORD: 'hunter2\r' },
      [/^MEMCACHE_PASSWORD contains a control/],
    ],
  ];
  // If this port cannot be taken, it is in use as well.
  const highest = createServer()
    .on('error', () => undefined)
    .listen(65_535, '127.0.0.1');
  t.teardown(() => highest.close());

  await Promise.all(
    refused.map(async ([env, complaints]) => {
      const web = run(t, env);
      t.equal(await web.ended, 1, JSON.stringify(env));
      t.match(web.complained().trimEnd().split('\n').sort(), complaints);
      t.equal(web.complained().split('\n').length, complaints.length + 1, web.complained());
      t.notMatch(web.complained(), /hunter2|\bat \S+:\d+|node:/, 'no password, no stack');
      t.equal(web.written(), '');
    }),
  );
});

await test('it listens whether or not the store answers, and says once what is wrong', async (t) => {
  // It accepts, and never answers.
  const silent = await listening(t, createServer());
  const later = await startMemcached(t);
  await later.kill();
  const cases: [string, RegExp][] = [
    [`127.0.0.1:${silent}`, /Memcached at 127\.0\.0\.1:\d+ is not available: ./],
    [later.address, /is not available: .*ECONNREFUSED/],
    ['nowhere.invalid', /is not available: .*nowhere\.invalid/],
  ];
  await Promise.all(
    cases.map(async ([servers, reason]) => {
      const web = run(t, { DYNO: 'web.1', HOST: '127.0.0.1', PORT: '0', MEMCACHE_SERVERS: servers });
      const url = await urlOf(web);
      for (let n = 0; n < 2; n += 1) {
        const answers = await Promise.all(Array.from({ length: 20 }, () => greet(url)));
        t.ok(answers.every(({ status }) => status === 503));
      }
      await until('it is logged', () => logged(web.written()).length > 1);
      const [, lost, ...others] = logged(web.written());
      t.match(lost, { level: 40, msg: reason });
      t.strictSame(others, [], 'however many requests failed');

      if (servers === later.address) {
        await later.restart();
        await until('the first greeting', async () => (await greet(url)).status === 200);
        await until('it is logged', () => logged(web.written()).length === 3);
        t.match(logged(web.written())[2], { level: 30, msg: /is available again/ });
      }
      t.equal(await web.stop(), 0);
      t.equal(web.complained(), '');
    }),
  );
});

await test('it logs in to the Memcached of each provider', withLogin(), async (t) => {
  const login = { username: 'some.body', password: 'p w:"\\hunter2' };
  const memcached = await startMemcached(t, { login });
  await Promise.all(
    ['MEMCACHIER', 'MEMCACHEDCLOUD', 'MEMCACHE', 'wrong'].map(async (name) => {
      const provider = name === 'wrong' ? 'MEMCACHIER' : name;
      const web = run(t, {
        ...{ DYNO: 'web.1', HOST: '127.0.0.1', PORT: '0' },
        [`${provider}_SERVERS`]: memcached.address,
        [`${provider}_USERNAME`]: login.username,
        [`${provider}_PASSWORD`]: name === 'wrong' ? 'hunter3' : login.password,
      });
      const url = await urlOf(web);
      if (name === 'wrong') {
        t.match(await greet(url), { status: 503, body: /warming up/ });
        await until('it is logged', () => logged(web.written()).length > 1);
        t.match(logged(web.written()).slice(1), [{ level: 40, msg: /refuses the login/ }]);
      } else {
        const { body, cookie } = await greet(url);
        t.equal(body, 'Hello #1\n');
        t.equal((await greet(url, { cookie })).body, 'Hello #2\n');
      }
      t.equal(await web.stop(), 0);
      t.notMatch(web.written() + web.complained(), /hunter/, 'a password is never logged');
    }),
  );
});

await test('requests are logged unless Heroku logs them; an id never is', async (t) => {
  const cases: [Record<string, string>, boolean][] = [
    [{}, true],
    [{ DYNO: 'web.1', COUNTERS: 'memory' }, false],
    [{ DYNO: 'web.1', COUNTERS: 'memory', LOG_LEVEL: 'trace' }, true],
  ];
  await Promise.all(
    cases.map(async ([env, lines]) => {
      const web = run(t, { HOST: '127.0.0.1', PORT: '0', ...env });
      const url = await urlOf(web);
      const { cookie } = await greet(url);
      const headers = { cookie };
      for (const path of ['', 'nothing', '%']) await greet(`${url}${path}`, headers);
      for (const body of ['x'.repeat(2000), ''])
        await greet(url, headers, { method: 'POST', body, redirect: 'manual' });
      t.equal(await web.stop(), 0);
      const requests = logged(web.written()).filter(({ msg }) => /request/i.test(msg));
      t.equal(requests.length > 0, lines);
      t.match(cookie, /^sid=.{22,}$/);
      t.notMatch(web.written(), cookie.slice(4));
      t.equal(web.complained(), '');
    }),
  );
});

for (const [fault, close, reason] of [
  ['fails', "throw new Error('a bug')", 'a bug'],
  ['hangs', '', 'Shutting down takes more than 6000 ms'],
] as const) {
  await test(`a shutdown that ${fault} is logged, and ends the process with status 1 all the same`, async (t) => {
    const patch = `import { Server } from 'node:net'; Server.prototype.close = () => { ${close} };`;
    const web = run(t, { PORT: '0', HOST: '127.0.0.1' }, [process.execPath, ...preload(patch), SERVER]);
    await greet(await urlOf(web));
    t.equal(await web.stop(), 1, 'not SIGKILL after 10 s');
    const fatal = logged(web.written()).filter(({ level }) => level === 60);
    t.match(fatal, [{ msg: 'Stopping failed', err: { message: reason } }]);
    t.equal(fatal.length, 1);
  });
}

for (const [fault, code] of [
  ['an uncaught error', "setTimeout(() => { throw new Error('a bug') })"],
  ['an unhandled rejection', "Promise.reject(new Error('a bug'))"],
] as const) {
  await test(`${fault} is logged, and ends the process with status 1 after its last answer`, async (t) => {
    const args = preload(`process.on('SIGUSR2', () => { ${code} })`);
    const web = run(t, { PORT: '0', HOST: '127.0.0.1' }, [process.execPath, ...args, SERVER]);
    const url = await urlOf(web);
    // Half of a request, so that it is under way.
    const visitor = await connect(Number(new URL(url).port), 'GET / HTTP/1.1\r\nHost: a.example\r\n');
    await greet(url);
    const ended = web.stop('SIGUSR2');
    await until('it is logged', () => web.written().includes('a bug'));
    visitor.write('\r\n');
    t.match(await answer(visitor), /^HTTP\/1.1 200 .*Hello #1\n$/s);
    t.equal(await ended, 1);
    const fatal = logged(web.written()).filter(({ level }) => level === 60);
    t.equal(fatal.length, 1);
    t.match(fatal, [{ msg: /^Uncaught error/, err: { message: 'a bug' } }]);
    t.equal(web.complained(), '');
  });
}
