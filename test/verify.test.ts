import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'tap';
import { freePort } from './support/processes.js';
import { run, startDynos, type Outcome } from './support/tools.js';

interface Test {
  teardown(action: () => unknown): void;
}

/** What a server that only looks like the app does with a request: `count` is how many came before it, plus one. */
type Answer = (count: number, response: ServerResponse, request: IncomingMessage) => unknown;

function verify(...args: string[]): Promise<Outcome> {
  return run('verify', args);
}

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** A server that sets a cookie with its first answer, and answers as it is told. */
function pretend(t: Test, answer: Answer): Promise<string> {
  let count = 0;
  return serve(t, (request, response) => {
    count++;
    if (count === 1) response.setHeader('set-cookie', 'sid=first; Path=/; HttpOnly');
    answer(count, response, request);
  });
}

function greet(response: ServerResponse, number: number, dyno = 'web.1'): void {
  response.setHeader('x-dyno', dyno).end(`Hello #${number}\n`);
}

// These wait for ten seconds, meanwhile the others run.
const teardowns: (() => unknown)[] = [];
const slow = { teardown: (action: () => unknown) => teardowns.push(action) };
const silentFromTheFirst = verify(await pretend(slow, () => undefined));
const silentOnce = verify(
  await pretend(slow, (count, response) => {
    if (count !== 5) greet(response, count < 5 ? count : count - 1);
  }),
);

await test('five dynos with one store are proved to count as one', async (t) => {
  const { url } = await startDynos(t);
  const { status, out, err } = await verify(url, '--requests', '200');
  t.equal(status, 0);
  t.match(out, /^Proved: each number from 1 to 200 came exactly once, over 5 dynos\.$/m);
  t.match(out, /^web\.1 █+ +\d+ \(\d+%\)\n(.*\n){3}web\.5 █/m);
  t.match(out, /^Median [\d.]+ ms, 99th percentile [\d.]+ ms$/m);
  t.notMatch(out + err, /[\r\x1b]/, 'no progress into a pipe');
});

await test('dynos that count for themselves are found out', async (t) => {
  const { url } = await startDynos(t, ['web=3', '--memory']);
  const { status, out } = await verify(url);
  t.equal(status, 1);
  t.match(
    out,
    /^Disproved: the count fell back to 1 at greeting \d+, answered by web\.[123]: the dynos do not share a store\.$/m,
  );
});

await test('a cookie for https only is used as well', async (t) => {
  const { url } = await startDynos(t, ['web=1', '--https']);
  const { status, out } = await verify(url, '--requests', '20');
  t.equal(status, 0);
  t.match(out, 'each number from 1 to 20 came exactly once, over 1 dyno.');
});

await test('a redirect is followed, and then no more', async (t) => {
  const app = await pretend(t, (count, response) => greet(response, count));
  let redirected = 0;
  const url = await serve(t, (_request, response) => {
    redirected++;
    response.writeHead(308, { location: app }).end();
  });
  t.equal((await verify(url, '--requests', '5')).status, 0);
  t.equal(redirected, 1);

  const { status, err } = await verify(
    await serve(t, (_request, response) => response.writeHead(308, { location: '/' }).end()),
  );
  t.equal(status, 2);
  t.match(err, 'redirects without end');
});

await test('numbers in another order are no fault while the requests overlap', async (t) => {
  let waiting: (() => void)[] = [];
  const url = await pretend(t, (count, response) => {
    if (count === 1) return greet(response, count);
    waiting.push(() => greet(response, count));
    if (waiting.length < 9) return;
    for (const answer of waiting.reverse()) answer();
    waiting = [];
  });
  const { status, out } = await verify(url, '--requests', '100', '--concurrency', '9');
  t.equal(status, 0, out);
});

const cheats: { name: string; answer: Answer; verdict: RegExp }[] = [
  {
    name: 'a count that falls back',
    answer: (count, response) => greet(response, count < 20 ? count : count - 10, 'web.2'),
    verdict: /Disproved: the count fell back to 10 at greeting 20, answered by web\.2, after 19 had been shown\.$/m,
  },
  {
    name: 'numbers in the wrong order, one after the other',
    answer: (count, response) => greet(response, count === 7 ? 8 : count === 8 ? 7 : count),
    verdict: /Disproved: the count fell back to 7 at greeting 8, answered by web\.1, after 8 had been shown\.$/m,
  },
  {
    name: 'a number left out',
    answer: (count, response) => greet(response, count < 7 ? count : count + 1),
    verdict: /Disproved: 1 of the numbers 1 to 30 is missing: 7\.$/m,
  },
  {
    name: 'a count that adds two',
    answer: (count, response) => greet(response, count * 2 - 1),
    verdict: /Disproved: 15 of the numbers 1 to 30 are missing: 2, 4, 6, 8, 10 and 10 more\.$/m,
  },
  {
    name: 'a number shown twice',
    answer: (count, response) => greet(response, count < 9 ? count : count - 1),
    verdict: /Disproved: numbers were shown more than once: 8 \(twice\)\.\nAlso: 1 of .* is missing: 30\.$/m,
  },
  {
    name: 'requests that fail, and are counted or not',
    answer(count, response) {
      if (count % 10 === 0) response.writeHead(503).end('The session store is not there\n');
      else if (count === 5) response.destroy();
      else greet(response, count < 20 ? count : count - 1);
    },
    verdict:
      /Disproved: 4 of 30 requests failed: the connection was lost, it answered 503 "The session store is not there" \(3 times\)\.\nAlso: 2 of the numbers 1 to 28 are missing: 5, 10 \(a request that failed may have been counted\)\.$/m,
  },
  {
    name: 'nothing but failures after the first greeting',
    answer: (count, response) => (count === 1 ? greet(response, 1) : response.writeHead(500).end()),
    verdict: /Disproved: 20 of 21 requests failed: it answered 500 \(20 times\)\.\nGave up after 21 requests of 30\.$/m,
  },
  {
    name: 'a session that is lost, with the same dyno answering',
    answer(count, response) {
      if (count > 15) response.setHeader('set-cookie', `sid=other${count}`);
      greet(response, count > 15 ? 1 : count);
    },
    verdict:
      /the count fell back to 1 at greeting 16, answered by web\.1: the session was lost, and another cookie set\.$/m,
  },
  {
    name: 'another cookie while the count goes on',
    answer(count, response) {
      if (count === 4) response.setHeader('set-cookie', ['theme=dark', '__Host-sid=other; Secure']);
      greet(response, count);
    },
    verdict: /Disproved: another cookie was set at greeting 4, answered by web\.1, though the count went on with 4\.$/m,
  },
  {
    name: 'greetings that stop being greetings',
    answer: (count, response) => (count === 3 ? response.end('Hello #3\n') : greet(response, count)),
    verdict: /Disproved: 1 of 30 requests failed: its greeting names no dyno \(X-Dyno\)/m,
  },
];

for (const { name, answer, verdict } of cheats) {
  await test(`found out: ${name}`, async (t) => {
    const { status, out, err } = await verify(await pretend(t, answer), '--requests', '30', '--concurrency', '1');
    t.equal(status, 1, err);
    t.match(out, verdict);
  });
}

await test('an app that sets no cookie is found out', async (t) => {
  const { status, out } = await verify(await serve(t, (_request, response) => greet(response, 1)));
  t.equal(status, 1);
  t.match(out, 'Disproved: the greeting set no session cookie.');
});

await test('what is not there, or not this app, cannot be tried', async (t) => {
  const nothing = await verify(`http://127.0.0.1:${await freePort()}`);
  t.match(nothing, { status: 2, err: /^Not tried: http:.*: nothing listens there\.\n$/ });
  const answers: [RequestListener, RegExp][] = [
    [(_request, response) => response.end('<h1>Hello #1</h1>'), /not a greeting such as "Hello #1"/],
    [(_request, response) => response.end('Hello #1\n'), /names no dyno \(X-Dyno\), so it is not this app/],
    [(_request, response) => response.writeHead(404).end('\x1b[2J'), /it answered 404\./],
    [(_request, response) => response.writeHead(503).end('Warming up\n'), /it answered 503 "Warming up"\./],
    [(_request, response) => response.destroy(), /the connection was lost/],
  ];
  for (const [listener, reason] of answers) {
    const { status, out, err } = await verify(await serve(t, listener));
    t.equal(status, 2);
    t.equal(out, '');
    t.match(err, reason);
  }
});

await test('wrong arguments are told in plain words', async (t) => {
  const wrong: [string[], RegExp][] = [
    [[], /^It needs an address/],
    [['localhost:5006'], /^"localhost:5006" has to be an address that begins with http/],
    [['nonsense'], /^"nonsense" has to be an address/],
    [['http://a/', 'http://b/'], /^One address is enough/],
    [['http://a/', '--requests', '1'], /^--requests is "1"; it has to be a number from 2 to 1000000\./],
    [['http://a/', '--concurrency', 'many'], /^--concurrency is "many"; it has to be a number from 1 to 1000\./],
    [['http://a/', '--what'], /^Unknown option '--what'\. npm run/],
  ];
  for (const [args, complaint] of wrong) {
    t.match(await verify(...args), { status: 2, out: '', err: complaint });
  }
  t.match(await verify('--help'), { status: 0, out: /^Usage: npm run verify -- URL/, err: '' });
});

await test('whoever does not answer for ten seconds has failed', async (t) => {
  t.match(await silentFromTheFirst, { status: 2, err: 'no answer within 10 s' });
  const { status, out } = await silentOnce;
  t.equal(status, 1);
  t.match(out, 'Disproved: 1 of 100 requests failed: no answer within 10 s.');
  for (const action of teardowns) action();
});
