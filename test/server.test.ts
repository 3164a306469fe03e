import { once } from 'node:events';
import { createConnection, createServer, type AddressInfo } from 'node:net';
import { test } from 'tap';
import { startMemcached } from './support/memcached.js';
import { start, stop, until } from './support/processes.js';
import { startWeb, systemEnvironment } from './support/web.js';

const SERVER = new URL('../dist/server.js', import.meta.url).pathname;

/** A web process and all that it writes. */
interface Process {
  readonly written: () => string;
  readonly complained: () => string;
  readonly send: (text: string) => void;
  readonly stop: (signal?: NodeJS.Signals) => Promise<number | string | null>;
  /** Its exit status, when it ends by itself. */
  readonly ended: Promise<unknown>;
}

type Teardown = Parameters<typeof startWeb>[0];

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
  await until('it listens', () => /http:[^\n]*\n/.test(web.written()));
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
): Promise<{ status: number; body: string; cookie: string }> {
  const response = await fetch(url, { headers });
  const [cookie = ''] = response.headers.getSetCookie();
  return { status: response.status, body: await response.text(), cookie: cookie.replace(/;.*/, '') };
}

/** A port where nobody listens any more once it is given. */
async function takenPort(t: Teardown, answer?: string): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    if (answer !== undefined) socket.on('data', () => socket.write(answer));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

await test('the first line says where to open it and where the counts live', async (t) => {
  const memcached = await startMemcached(t);
  await Promise.all(
    (
      [
        [{}, /http:\/\/localhost:\d+\/,.* memory$/],
        [{ HOST: '::1' }, /http:\/\/\[::1\]:\d+\/,.* memory$/],
        [
          { HOST: '127.0.0.1', MEMCACHE_SERVERS: memcached.address },
          /http:\/\/127\.0\.0\.1:\d+\/,.* 127\.0\.0\.1:\d+$/,
        ],
        [{ DYNO: 'web.1', COUNTERS: 'memory', MEMCACHIER_SERVERS: 'x' }, /http:\/\/localhost:\d+\/,.* memory$/],
      ] as const
    ).map(async ([env, line]) => {
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

await test('on a terminal the first line is for people, and Ctrl-C ends it', async (t) => {
  const command = process.platform === 'darwin' ? ['script', '-q', '/dev/null', process.execPath, SERVER] : undefined;
  const web = run(
    t,
    { PORT: '0' },
    command ?? ['script', '-qec', `exec '${process.execPath}' '${SERVER}'`, '/dev/null'],
  );
  const url = await urlOf(web);
  t.match(web.written(), /^[^{}]*http:\/\/localhost:\d+\/[^{}]*memory[^{}]*\r\n$/);
  t.equal((await greet(url)).status, 200);
  await until('the request is logged', () => web.written().includes('request completed'));
  t.ok(logged(web.written().slice(web.written().indexOf('\n') + 1)).length > 0, 'all that follows is JSON');
  web.send('\x03');
  t.equal(await web.ended, 0);
});

await test('a refused environment: every complaint in a line of its own, status 1', async (t) => {
  const refused: [Record<string, string>, RegExp[]][] = [
    [{ PORT: 'abc' }, [/^PORT is "abc"/]],
    [{ DYNO: 'web.1' }, [/^MEMCACHIER_SERVERS is not set.*heroku addons:create memcachier:dev/]],
    [{ MEMCACHIER_SERVERS: 'mc', MEMCACHIER_PASSWORD: 'hunter2' }, [/^MEMCACHIER_USERNAME is not set/]],
    [
      { PORT: '-1', SESSION_TTL: '1', LOG_LEVEL: '7', MEMCACHE_SERVERS: 'u:hunter2@mc', MEMCACHE_PASSWORD: 'hunter2' },
      [/^LOG_LEVEL/, /^MEMCACHE_SERVERS/, /^MEMCACHE_USERNAME/, /^PORT/, /^SESSION_TTL/],
    ],
    [{ HOST: 'nowhere.invalid', PORT: '0' }, [/^PORT 0 on HOST nowhere\.invalid cannot be /]],
    [{ HOST: '127.0.0.1', PORT: String(await takenPort(t)) }, [/^PORT \d+ on HOST 127\.0\.0\.1 cannot be .*in use/]],
  ];
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
  const silent = await takenPort(t);
  const later = await startMemcached(t);
  await later.kill();
  await Promise.all(
    (
      [
        [`127.0.0.1:${silent}`, /Memcached at 127\.0\.0\.1:\d+ does not answer: ./],
        [later.address, /does not answer: .*ECONNREFUSED/],
        ['nowhere.invalid', /does not answer: .*nowhere\.invalid/],
      ] as const
    ).map(async ([servers, reason]) => {
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
        t.match(logged(web.written())[2], { level: 30, msg: /answers again/ });
      }
      t.equal(await web.stop(), 0);
      t.equal(web.complained(), '');
    }),
  );
});

await test('it logs in to the Memcached of each provider', async (t) => {
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
        t.match(logged(web.written()).slice(1), [{ level: 40, msg: /does not answer/ }]);
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

await test('a thousand requests at once in one session, over five processes', async (t) => {
  const memcached = await startMemcached(t);
  const dynos = [1, 2, 3, 4, 5].map((n) => startWeb(t, { DYNO: `web.${n}`, MEMCACHE_SERVERS: memcached.address }));
  const webs = await Promise.all(dynos);
  const { cookie } = await greet(webs[0]?.url ?? '');
  const greetings = await Promise.all(
    Array.from({ length: 1000 }, (_, index) => greet(webs[index % 5]?.url ?? '', { cookie })),
  );
  const counts = greetings.map(({ body }) => Number(/^Hello #(\d+)\n$/.exec(body)?.[1]));
  const each = Array.from({ length: 1000 }, (_, index) => index + 2);
  t.strictSame(
    counts.sort((a, b) => a - b),
    each,
    'each number from 2 to 1001 exactly once',
  );
  t.strictSame(await Promise.all(webs.map((web) => web.stop())), [0, 0, 0, 0, 0]);
});

await test('a line per request is logged at home, and none on Heroku; an id never', async (t) => {
  for (const [env, lines] of [
    [{ LOG_LEVEL: 'trace' }, true],
    [{ DYNO: 'web.1', COUNTERS: 'memory', LOG_LEVEL: 'trace' }, false],
  ] as const) {
    const web = run(t, { HOST: '127.0.0.1', PORT: '0', ...env });
    const url = await urlOf(web);
    const { cookie } = await greet(url);
    const headers = { cookie };
    for (const path of ['', 'nothing', '%']) await greet(`${url}${path}`, headers);
    for (const body of ['x'.repeat(2000), '']) await fetch(url, { method: 'POST', headers, body, redirect: 'manual' });
    t.equal(await web.stop(), 0);
    t.equal(
      logged(web.written()).some(({ msg }) => /request/i.test(msg)),
      lines,
    );
    t.match(cookie, /^sid=.{22,}$/);
    t.notMatch(web.written(), cookie.slice(4));
    t.equal(web.complained(), '');
  }
});

await test('a signal may come more than once', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const web = await startWeb(t);
    const visitor = createConnection(web.port, '127.0.0.1').setEncoding('latin1');
    await once(visitor, 'connect');
    visitor.write('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
    await once(visitor, 'data');
    web.child.kill(signal);
    await until('it stops listening', async () =>
      greet(web.url).then(
        () => false,
        () => true,
      ),
    );
    for (const another of ['SIGTERM', 'SIGINT'] as const) web.child.kill(another);
    // What still arrives on an open connection is answered, also a malformed path, which Fastify treats in its own way.
    visitor.write('GET /% HTTP/1.1\r\nHost: a.example\r\n\r\n');
    const [answer] = (await once(visitor, 'data')) as [string];
    t.match(answer, /^HTTP\/1.1 404 .*\r\nconnection: close\r\n/is);
    t.equal(await web.stop(signal), 0, signal);
  }
});

for (const [fault, code] of [
  ['an error that nobody caught', "setTimeout(() => { throw new Error('a bug') })"],
  ['a promise that nobody awaited', "Promise.reject(new Error('a bug'))"],
] as const) {
  await test(`${fault} is logged, and ends the process with status 1 after its last answer`, async (t) => {
    const preload = `data:text/javascript,process.on('SIGUSR2',()=>{${encodeURIComponent(code)}})`;
    const web = run(t, { PORT: '0', HOST: '127.0.0.1' }, [process.execPath, '--import', preload, SERVER]);
    const url = await urlOf(web);
    const visitor = createConnection(Number(new URL(url).port), '127.0.0.1').setEncoding('latin1');
    await once(visitor, 'connect');
    // Half of a request, so that it is under way.
    visitor.write('GET / HTTP/1.1\r\nHost: a.example\r\n');
    await greet(url);
    const ended = web.stop('SIGUSR2');
    await until('it is logged', () => web.written().includes('a bug'));
    visitor.write('\r\n');
    const [answer] = (await once(visitor, 'data')) as [string];
    t.match(answer, /^HTTP\/1.1 200 .*Hello #1\n$/s);
    t.equal(await ended, 1);
    const fatal = logged(web.written()).filter(({ level }) => level === 60);
    t.equal(fatal.length, 1);
    t.equal(fatal[0]?.err?.message, 'a bug');
    t.equal(web.complained(), '');
  });
}
