import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { test } from 'tap';
import { stop, until } from '../tools/processes.ts';
import { startMemcached, withLogin } from './support/memcached.ts';
import { startProgram, type Owner, type Program } from './support/program.ts';
import { inTerminal } from './support/tools.ts';
import { listening, logged, preload, SERVER, systemEnvironment } from './support/web.ts';

const ON_HEROKU = { DYNO: 'web.1', COUNTERS: 'memory' };

/** A web process that may not listen, or not for long. */
function run(t: Owner, env: Record<string, string>, nodeArgs: readonly string[] = [], onTerminal = false): Program {
  const command = [process.execPath, ...nodeArgs, SERVER];
  return startProgram(t, onTerminal ? inTerminal(command) : command, { env: { ...systemEnvironment(), ...env } });
}

/** Where a web process can be opened. */
async function urlOf({ out }: Program): Promise<string> {
  await until('it listens', () => /http:[^\n]*\n/.test(out()), 30_000);
  return /http:[^,]*/.exec(out())?.[0] ?? '';
}

async function greet(url: string, headers: Record<string, string> = {}, request: RequestInit = {}) {
  // A connection that is kept would hold up the end of the process.
  const response = await fetch(url, { ...request, headers: { ...headers, connection: 'close' } });
  const [cookie = ''] = response.headers.getSetCookie();
  return { status: response.status, body: await response.text(), cookie: cookie.replace(/;.*/, '') };
}

await test('the first line says where to open it and where the counts live', async (t) => {
  const memcached = await startMemcached(t);
  const cases: [Record<string, string>, RegExp][] = [
    [{}, /http:\/\/localhost:\d+\/,.* memory$/],
    [{ HOST: '::1' }, /http:\/\/\[::1\]:\d+\/,.* memory$/],
    [{ HOST: '0.0.0.0' }, /http:\/\/localhost:\d+\/,.* memory$/],
    [{ HOST: '::' }, /http:\/\/localhost:\d+\/,.* memory$/],
    [{ HOST: '127.0.0.1', MEMCACHE_SERVERS: memcached.address }, /http:\/\/127\.0\.0\.1:\d+\/,.* 127\.0\.0\.1:\d+$/],
    [ON_HEROKU, /http:\/\/localhost:\d+\/,.* memory$/],
  ];
  await Promise.all(
    cases.map(async ([env, line]) => {
      const web = run(t, { PORT: '0', ...env });
      const url = await urlOf(web);
      t.match(logged(web)[0], { level: 30, msg: line });
      t.match(await greet(url), { status: 200, body: 'Hello #1\n' }, 'it can be opened as it is printed');
      if ('DYNO' in env)
        for (const host of ['127.0.0.1', '[::1]'])
          t.equal((await greet(url.replace('localhost', host))).status, 200, 'on every address, IPv6 as well');
      t.equal(await stop(web.child), 0);
      const warnings = logged(web).filter(({ level }) => level > 30);
      t.match(warnings, 'DYNO' in env ? [{ msg: /^COUNTERS=memory/ }] : []);
      t.equal(warnings.length, 'DYNO' in env ? 1 : 0);
      t.equal(web.err(), '');
    }),
  );
});

await test('on a terminal the log is plain lines of what changes, and Ctrl-C ends the process', async (t) => {
  const memcached = await startMemcached(t);
  const web = run(t, { PORT: '0', MEMCACHE_SERVERS: memcached.address }, [], true);
  const url = await urlOf(web);
  t.equal((await greet(url)).status, 200);
  await memcached.kill();
  t.equal((await greet(url)).status, 503);
  await until('the loss is logged', () => web.out().split('\n').length > 2);
  web.child.stdin?.write('\x03');
  t.equal(await web.ended, 0);
  const [first, lost, ...others] = web.out().replaceAll('\r', '').replace('^C', '').trimEnd().split('\n');
  t.match(first, /^Hello #N is at http:\/\/localhost:\d+\/, with the counts in Memcached at 127\.0\.0\.1:\d+$/);
  t.match(lost, /^Memcached at 127\.0\.0\.1:\d+ [^{}]+$/);
  t.strictSame(others, [], 'no line for a request');
});

await test('on a terminal LOG_LEVEL=debug shows each request in plain words', async (t) => {
  const web = run(t, { PORT: '0', LOG_LEVEL: 'debug' }, [], true);
  await greet(await urlOf(web));
  await until('the answer is logged', () => web.out().includes('completed'));
  t.match(web.out(), /^incoming request GET \/\r\nrequest completed 200\r\n$/m);
  web.child.stdin?.write('\x03');
  t.equal(await web.ended, 0);
});

await test('on a terminal an uncaught error is shown with its stack', async (t) => {
  const code = 'process.once("newListener", () => setImmediate(() => { throw new Error("a bug") }))';
  const web = run(t, { PORT: '0' }, preload(code), true);
  t.equal(await web.ended, 1);
  t.match(web.out(), /Uncaught error; the process exits Error: a bug\r\n +at /);
});

await test('a refused environment: every complaint in a line of its own, status 1', async (t) => {
  const taken = String(await listening(t, createServer()));
  const inUse = `import net from 'node:net';
  net.Server.prototype.listen = function () {
    process.nextTick(() => this.emit('error', Object.assign(new Error('in use'), { code: 'EADDRINUSE' })));
    return this;
  }`;
  const refused: [Record<string, string>, RegExp[], string?][] = [
    [
      { PORT: '-1', SESSION_TTL: '1', LOG_LEVEL: '7', MEMCACHE_SERVERS: 'u:hunter2@mc', MEMCACHE_PASSWORD: 'hunter2' },
      [/^LOG_LEVEL/, /^MEMCACHE_SERVERS/, /^MEMCACHE_USERNAME/, /^PORT/, /^SESSION_TTL/],
    ],
    [{ ...ON_HEROKU, PORT: taken }, [new RegExp(`^PORT ${taken} is in use`)]],
    [{ PORT: taken }, [new RegExp(`^PORT ${taken} is in use; set PORT to another port, such as ${+taken + 1}$`)]],
    [{ PORT: '65535' }, [/^PORT 65535 is in use; set PORT to another port, such as 65534$/], inUse],
    [{ HOST: '192.0.2.1', PORT: '0' }, [/^PORT 0 on HOST 192\.0\.2\.1 cannot be used: .*EADDRNOTAVAIL/]],
    [{ HOST: 'nowhere.invalid', PORT: '0' }, [/^PORT 0 on HOST nowhere\.invalid cannot be used: ./]],
  ];
  await Promise.all(
    refused.map(async ([env, complaints, code = '']) => {
      const web = run(t, env, preload(code));
      t.equal(await web.ended, 1, JSON.stringify(env));
      t.match(web.err().trimEnd().split('\n').sort(), complaints);
      t.equal(web.err().split('\n').length, complaints.length + 1, web.err());
      t.notMatch(web.err(), /hunter2|\bat \S+:\d+|node:/, 'no password, no stack');
      t.equal(web.out(), '');
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
  ];
  await Promise.all(
    cases.map(async ([servers, reason]) => {
      const web = run(t, { DYNO: 'web.1', HOST: '127.0.0.1', PORT: '0', MEMCACHE_SERVERS: servers });
      const url = await urlOf(web);
      for (let n = 0; n < 2; n += 1) {
        const answers = await Promise.all(Array.from({ length: 20 }, () => greet(url)));
        t.ok(answers.every(({ status }) => status === 503));
      }
      await until('it is logged', () => logged(web).length > 1);
      const [, lost, ...others] = logged(web);
      t.match(lost, { level: 40, msg: reason });
      t.strictSame(others, [], 'however many requests failed');

      if (servers === later.address) {
        await later.restart();
        await until('the first greeting', async () => (await greet(url)).status === 200);
        await until('it is logged', () => logged(web).length === 3);
        t.match(logged(web)[2], { level: 30, msg: /is available again/ });
      }
      t.equal(await stop(web.child), 0);
      t.equal(web.err(), '');
    }),
  );
});

await test('it logs in, and never logs a password', withLogin(), async (t) => {
  const login = { username: 'some.body', password: 'p w:"\\hunter2' };
  const memcached = await startMemcached(t, { login });
  for (const password of [login.password, 'hunter3']) {
    const web = run(t, {
      ...{ DYNO: 'web.1', HOST: '127.0.0.1', PORT: '0', MEMCACHIER_SERVERS: memcached.address },
      ...{ MEMCACHIER_USERNAME: login.username, MEMCACHIER_PASSWORD: password },
    });
    const url = await urlOf(web);
    if (password === login.password) t.equal((await greet(url)).body, 'Hello #1\n');
    else {
      t.match(await greet(url), { status: 503, body: /warming up/ });
      await until('it is logged', () => logged(web).length > 1);
      t.match(logged(web).slice(1), [{ level: 40, msg: /refuses the login/ }]);
    }
    t.equal(await stop(web.child), 0);
    t.notMatch(web.out() + web.err(), /hunter/, 'a password is never logged');
  }
});

await test('off Heroku requests are logged, and an id never is', async (t) => {
  for (const level of ['info', 'trace']) {
    const web = run(t, { HOST: '127.0.0.1', PORT: '0', LOG_LEVEL: level });
    const url = await urlOf(web);
    const { cookie } = await greet(url);
    const headers = { cookie };
    for (const path of ['', 'nothing', '%']) await greet(`${url}${path}`, headers);
    for (const body of ['x'.repeat(2000), '']) await greet(url, headers, { method: 'POST', body, redirect: 'manual' });
    t.equal(await stop(web.child), 0);
    t.ok(logged(web).some(({ msg }) => msg === 'request completed'));
    t.match(cookie, /^sid=.{22,}$/);
    t.notMatch(web.out(), cookie.slice(4));
    t.equal(web.err(), '');
  }
});

for (const [fault, close, reason] of [
  ['fails', "throw new Error('a bug')", 'a bug'],
  ['hangs', '', 'Shutting down takes more than 6000 ms'],
] as const) {
  await test(`a shutdown that ${fault} is logged, and ends the process with status 1 all the same`, async (t) => {
    const patch = `import { Server } from 'node:net'; Server.prototype.close = () => { ${close} };`;
    const web = run(t, { PORT: '0', HOST: '127.0.0.1' }, preload(patch));
    await greet(await urlOf(web));
    t.equal(await stop(web.child), 1, 'not SIGKILL after 10 s');
    const fatal = logged(web).filter(({ level }) => level === 60);
    t.match(fatal, [{ msg: 'Stopping failed', err: { message: reason } }]);
    t.equal(fatal.length, 1);
  });
}

await test('an uncaught error is logged, and ends the process with status 1 after its last answer', async (t) => {
  const args = preload("process.on('SIGUSR2', () => { Promise.reject(new Error('a bug')) })");
  const web = run(t, { PORT: '0', HOST: '127.0.0.1' }, args);
  const url = await urlOf(web);
  const visitor = createConnection(Number(new URL(url).port), '127.0.0.1').setEncoding('latin1');
  // Half of a request, so that it is under way.
  visitor.write('GET / HTTP/1.1\r\nHost: a.example\r\n');
  await once(visitor, 'connect');
  await greet(url);
  const ended = stop(web.child, 'SIGUSR2');
  await until('it is logged', () => web.out().includes('a bug'));
  visitor.write('\r\n');
  t.match(await once(visitor, 'data'), [/^HTTP\/1.1 200 .*Hello #1\n$/s]);
  t.equal(await ended, 1);
  const fatal = logged(web).filter(({ level }) => level === 60);
  t.equal(fatal.length, 1);
  t.match(fatal, [{ msg: /^Uncaught error/, err: { message: 'a bug' } }]);
  t.equal(web.err(), '');
});
