import dns from 'node:dns';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { Connection } from '../../src/counters/connection.ts';
import { create, increment, type Question } from '../../src/counters/protocol.ts';
import { readLines, start } from '../../tools/processes.ts';
import { Network, randomFrom } from '../support/network.ts';

// SEED=7 COURSES=1 repeats the course with that seed, COURSES=100000 searches for longer.
const { SEED = String(Math.floor(Math.random() * 1e9)), COURSES = '0' } = process.env;

await test('whatever befalls the store, in whatever order', async (t) => {
  const script = fileURLToPath(new URL('../support/search.ts', import.meta.url));
  const search = start(process.execPath, [...process.execArgv, script, SEED, COURSES]);
  const lines: string[] = [];
  readLines(search, (line) => lines.push(line));
  await once(search, 'close');
  t.equal(search.exitCode, 0, lines.join('\n'));
  t.comment(lines.at(-1));
});

interface Scene {
  readonly network: Network;
  readonly connection: Connection;
  readonly lines: string[];
  readonly run: (milliseconds: number) => Promise<void>;
}

/** A connection on a simulated network that is well. */
function scene(login = false): Scene {
  const network = new Network(() => 0.5, login ? '\0app\0secret' : undefined);
  const server = { host: 'store.example', port: 11_211, ...(login ? { username: 'app', password: 'secret' } : {}) };
  const connection = new Connection(server, network.world);
  const lines: string[] = [];
  const log = (line: string): void => void lines.push(line);
  connection.open({ info: log, warn: log });
  return {
    network,
    connection,
    lines,
    run: (milliseconds) => network.clock.run(network.clock.now + milliseconds, () => undefined),
  };
}

const KEY = 'k'.repeat(32);

await test('a refused login is that of a new add-on for five minutes, and is logged once a minute', async (t) => {
  const { network, connection, lines, run } = scene(true);
  network.conditions.login = 'refused';
  await run(1000);
  const failure = async (): Promise<unknown> => {
    const failed = connection.ask(increment(60), KEY, network.clock.now + 1000).catch((error: unknown) => error);
    await run(100);
    return failed;
  };
  t.match(await failure(), { trouble: 'warming up', statusCode: 503, message: 'The session store is warming up' });
  t.match(lines, [
    /^Memcached at store\.example:11211 refuses the login: "Auth failure", status 0x20\. Check its username/,
  ]);
  await run(295_000);
  t.match(await failure(), { trouble: 'warming up' });
  t.equal(lines.length, 5);
  await run(5000);
  t.match(await failure(), { trouble: 'login refused', message: 'The session store refuses the login' });

  network.conditions.login = 'well';
  await run(500);
  const asked = connection.ask(create(60), KEY, network.clock.now + 1000);
  await run(10);
  t.equal(await asked, 1);
  t.match(lines.at(-1), /is available again$/);
  network.conditions.login = 'refused';
  network.restart();
  t.match(await failure(), { trouble: 'warming up' }, 'later it may be warming up again');
  t.match(lines.at(-1), /refuses the login/, 'which is logged at once');
  connection.close();
});

await test('refusals are logged by their kind, once a minute, and those of TOUCH once', async (t) => {
  const { network, connection, lines, run } = scene();
  await run(100);
  const ask = async (question: Question, key = KEY): Promise<unknown> => {
    const answer = connection.ask(question, key, network.clock.now + 1000).catch((error: unknown) => error);
    await run(10);
    return answer;
  };
  t.equal(await ask(create(60)), 1);
  network.conditions.store = 'full';
  for (let n = 0; n < 10; n += 1) {
    t.match(await ask(create(60), `${n}`.padEnd(32, '-')), {
      trouble: 'unavailable',
      cause: { message: 'Memcached at store.example:11211: it refuses INCREMENT: "Out of memory", status 0x82' },
    });
  }
  t.strictSame(lines, ['Memcached at store.example:11211 refuses INCREMENT: "Out of memory", status 0x82']);
  network.conditions.store = 'well';
  network.conditions.touch = 'refused';
  t.equal(await ask(increment(3600)), 2, 'the greeting goes on');
  t.match(lines[1], /refuses TOUCH: "Unknown command", status 0x81$/);
  await run(61_000);
  t.equal(await ask(create(60)), 1);
  network.conditions.store = 'full';
  t.equal(await ask(increment(60)), 2);
  await ask(create(60), 'another'.padEnd(32, '-'));
  t.equal(lines.length, 3, 'only the other kind is logged again');
  connection.close();
});

await test('at a distance, no answer waits for another', async (t) => {
  const { network, connection, run } = scene();
  Object.assign(network.conditions, { up: 5, down: 5 });
  const random = randomFrom(1);
  const took: number[] = [];
  await run(100);
  // 400 a second, at random moments.
  for (let at = network.clock.now; took.length < 1000; at += -Math.log(1 - random()) / 0.4) {
    await run(Math.max(0, at - network.clock.now));
    const asked = network.clock.now;
    void connection.ask(increment(60), KEY, asked + 1000).then(() => took.push(network.clock.now - asked));
  }
  await run(20);
  t.ok(Math.max(...took) <= 10.001, `${Math.max(...took)} ms, where a round trip takes 10`);
  connection.close();
});

await test('a look-up that DNS does not answer is made once, and is not left behind by many', async (t) => {
  let lookUps = 0;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<never>((_resolve, fail) => (reject = fail));
  t.intercept(dns.promises, 'lookup', {
    value: () => {
      lookUps += 1;
      return promise;
    },
  });
  const connection = new Connection({ host: 'store.example', port: 11_211 });
  const lost = new Promise<string>((resolve) => {
    connection.open({ info: () => undefined, warn: resolve });
  });
  t.match(await lost, /no connection within a second$/);
  await t.rejects(connection.ask(increment(60), KEY, performance.now() + 1000), {
    cause: { message: /no connection/ },
  });
  t.equal(lookUps, 1);
  connection.close();
  reject(new Error('queryA ETIMEOUT store.example'));
});

await test('what the log says of a host that cannot be reached', async (t) => {
  const closed = createServer().listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const { port } = closed.address() as AddressInfo;
  closed.close();
  const addresses = ['127.0.0.1', '127.0.0.2'].map((address) => ({ address, family: 4 }));
  const answers = [
    () => Promise.resolve(addresses),
    () => Promise.reject(new Error('getaddrinfo ENOTFOUND store.example')),
  ];
  t.intercept(dns.promises, 'lookup', { value: () => answers.shift()?.() });
  for (const words of [/ECONNREFUSED 127\.0\.0\.1.*ECONNREFUSED 127\.0\.0\.2/, /ENOTFOUND store\.example$/]) {
    const connection = new Connection({ host: 'store.example', port });
    const lost = new Promise<string>((resolve) => {
      connection.open({ info: () => undefined, warn: resolve });
    });
    t.match(await lost, words);
    connection.close();
  }
});
