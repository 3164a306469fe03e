import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { test, type Test } from 'tap';
import type { UnavailableCode } from '../../src/counters/counters.ts';
import { PROBE_KEY } from '../../src/memcached/protocol.ts';
import { until } from '../../tools/processes.ts';
import { CountedSession, openCounters } from '../support/counters.ts';
import { LOGIN, startMemcached, withLogin } from '../support/memcached.ts';

// What real stores say and do, and what the log and the code say of it.

/** Opens counters, waits until a line in the log says what is wrong, and checks the code of what is asked then. */
async function checkRefusal(
  t: Test,
  port: number,
  { code, says, login }: { code: UnavailableCode; says: RegExp; login?: typeof LOGIN },
): Promise<{ session: CountedSession; log: string[] }> {
  const log: string[] = [];
  const session = new CountedSession(openCounters(t, [port], { login, log }));
  await until('the log says what is wrong', () => log.length > 0);
  t.equal(await session.greet(), code);
  t.matchOnly(log, [says]);
  return { session, log };
}

await test('a memcached that is full of connections says so, and is back when some have gone', async (t) => {
  const memcached = await startMemcached(t, { args: ['-c', '32', '-t', '1'] });
  const sockets: Socket[] = [];
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  let isFull = false;
  while (!isFull) {
    const socket = createConnection(memcached.port, '127.0.0.1').on('error', () => undefined);
    sockets.push(socket);
    // It answers NOOP, or says that it is full.
    socket.write(Buffer.from([0x80, 0x0a, ...Buffer.alloc(22)]));
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    isFull = bytes[0] !== 0x81;
  }
  const { session, log } = await checkRefusal(t, memcached.port, {
    code: 'ERR_COUNTERS_NOT_MEMCACHED',
    says: /is not available: it sent "ERROR Too many open connections\\r\\n"$/,
  });
  for (const socket of sockets) socket.destroy();
  await until('it counts', async () => (await session.greet()) === 1);
  t.match(log[1], /is available again$/);
});

await test('a memcached that speaks only the text protocol is quoted', async (t) => {
  const { port } = await startMemcached(t, { args: ['-B', 'ascii'] });
  await checkRefusal(t, port, { code: 'ERR_COUNTERS_NOT_MEMCACHED', says: /is not available: it sent "ERROR\\r\\n"$/ });
});

await test('a login is set, and the memcached takes none', async (t) => {
  const { port } = await startMemcached(t);
  const says = /is not available: it has no logins, but one is set: "Unknown command", status 0x81$/;
  await checkRefusal(t, port, { code: 'ERR_COUNTERS_LOGIN_UNSUPPORTED', says, login: LOGIN });
});

await test('no login is set, and the memcached requires one', withLogin(), async (t) => {
  const { port } = await startMemcached(t, { login: LOGIN });
  const says = /is not available: it requires a login, and none is set: "Auth failure\.", status 0x20$/;
  await checkRefusal(t, port, { code: 'ERR_COUNTERS_LOGIN_REQUIRED', says });
});

await test('a login that has never worked is warming up', withLogin(), async (t) => {
  const memcached = await startMemcached(t, { login: { ...LOGIN, password: 'another' } });
  const says = /is not available: it refuses the login: "Auth failure\.", status 0x20\. The login of a new add-on/;
  const code = 'ERR_COUNTERS_WARMING_UP';
  const { session } = await checkRefusal(t, memcached.port, { code, says, login: LOGIN });
  memcached.setPassword(LOGIN.password);
  await until('it counts', async () => (await session.greet()) === 1);
});

await test('a memcached that is full refuses to count newcomers, and still counts those whom it knows', async (t) => {
  const memcached = await startMemcached(t, { args: ['-M', '-m', '2'] });
  const log: string[] = [];
  const counters = openCounters(t, [memcached.port], { log });
  const known = new CountedSession(counters);
  t.equal(await known.greet(), 1);
  // More items of this size than fit into 2 MB. The last command is there for its answer.
  const keys = Array.from({ length: 25_000 }, (_, n) => String(n).padStart(32, 'k'));
  await memcached.ask(`${keys.map((key) => `set ${key} 0 0 1 noreply\r\n1\r\n`).join('')}verbosity 0`);
  for (let n = 0; n < 3; n += 1) t.equal(await new CountedSession(counters).greet(), 'ERR_COUNTERS_COMMAND_REFUSED');
  t.equal(await known.greet(), 2);
  const refusal = /refuses INCREMENT: "Out of memory allocating new item\.?", status 0x82$/;
  t.matchOnly(log, [refusal], 'which is logged once');

  const two = await startMemcached(t);
  const both = openCounters(t, [memcached.port, two.port], { log });
  const newcomers = Array.from({ length: 20 }, () => new CountedSession(both).greet());
  t.strictSame(new Set(await Promise.all(newcomers)), new Set([1]), 'if there is another, newcomers go there');
  t.matchOnly(log, [refusal, refusal]);
  t.equal((await two.stats()).get('curr_items'), '20');
});

await test('what is no count fails its own visitor, and nobody else', async (t) => {
  const memcached = await startMemcached(t);
  await memcached.ask(`set ${PROBE_KEY} 0 0 4\r\ntext`);
  const log: string[] = [];
  const counters = openCounters(t, [memcached.port], { log });
  const [big, other, text] = [new CountedSession(counters), new CountedSession(counters), new CountedSession(counters)];
  for (const each of [big, other, text]) t.equal(await each.greet(), 1, 'text under the key of the probe is no outage');
  await memcached.ask(`set ${big.key} 0 0 16\r\n${2 ** 53 - 1}`);
  await memcached.ask(`set ${text.key} 0 0 4\r\ntext`);
  const refused = 'ERR_COUNTERS_COMMAND_REFUSED';
  for (let count = 2; count < 5; count += 1)
    t.strictSame(await Promise.all([big, other, text].map((each) => each.greet())), [refused, count, refused]);
  const refusals = [/refuses INCREMENT: 9007199254740992 is no count$/, /refuses INCREMENT: "Non-numeric/];
  t.matchOnly(log, refusals, 'the connection is kept');
});
