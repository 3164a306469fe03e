import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import { test } from 'tap';
import { freePort, until } from '../../tools/processes.ts';
import { faults, type Answer } from '../../tools/verdict.ts';
import { startProgram, type Owner } from '../support/program.ts';
import { run, type Outcome } from '../support/tools.ts';
import { listening } from '../support/web.ts';

const verify = (...args: string[]): Promise<Outcome> => run('verify', args);

async function serve(t: Owner, listener: RequestListener): Promise<string> {
  return `http://127.0.0.1:${await listening(t, createServer(listener))}/`;
}

/** A server that looks like the app. It numbers the requests from 1, and sets a cookie with the first answer. */
function pretend(t: Owner, answer: (count: number, response: ServerResponse) => unknown): Promise<string> {
  let count = 0;
  return serve(t, (_request, response) => {
    count++;
    if (count === 1) response.setHeader('set-cookie', 'sid=first; Path=/; HttpOnly');
    answer(count, response);
  });
}

function greet(response: ServerResponse, number: number, dyno = 'web.1'): void {
  response.setHeader('x-dyno', dyno).end(`Hello #${number}\n`);
}

await test('Ctrl-C ends it, and shows what came until then', async (t) => {
  for (const [args, proved] of [
    [['--for', '60s'], /^Proved: of \d+ numbers none came twice, .*\nNo request failed\.$/m],
    [['--requests', '1000000'], /^Proved: each number from 1 to \d+ came exactly once, over 1 dyno\.$/m],
  ] as const) {
    let last = 0;
    const url = await pretend(t, (count, response) => greet(response, (last = count)));
    const { child, out, ended } = startProgram(t, [process.execPath, 'build/tools/verify.js', url, ...args], {});
    await until('it has greeted a hundred times', () => last > 100);
    child.kill('SIGINT');
    child.kill('SIGINT');
    t.equal(await ended, 0);
    t.match(out(), proved);
  }
});

// These wait for ten seconds. The others run meanwhile.
const teardowns: (() => unknown)[] = [];
const slow = { teardown: (action: () => unknown) => teardowns.push(action) };
const silentFromTheFirst = verify(await pretend(slow, () => undefined));
const silentOnce = verify(
  await pretend(slow, (count, response) => {
    if (count !== 5) greet(response, count < 5 ? count : count - 1);
  }),
);

await test('numbers that each came once are proved, whatever their order while requests overlap', async (t) => {
  const names = ['web-1234abcde-123ab', 'web-1234abcde-45678', 'web.10', 'web.2'];
  let waiting: (() => void)[] = [];
  const url = await pretend(t, (count, response) => {
    if (count === 1) return greet(response, count, names[0]);
    waiting.push(() => greet(response, count, names[count % 4]));
    if (waiting.length < 9) return;
    for (const answer of waiting.reverse()) answer();
    waiting = [];
  });
  const { status, out, err } = await verify(url, '--concurrency', '9');
  t.equal(status, 0, out);
  t.match(out, /^web-1234abcde-123ab █+ +26 \(26%\)\nweb-1234abcde-45678 █.*\nweb\.2 +█.*\nweb\.10 +█/);
  t.match(out, /^Median [\d.]+ ms, 99th percentile [\d.]+ ms$/m);
  t.match(out, /^Proved: each number from 1 to 100 came exactly once, over 4 dynos\.$/m);
  t.notMatch(out + err, /[\r\x1b]/, 'no progress into a pipe');
});

await test('redirects are followed, up to five', async (t) => {
  const app = await pretend(t, (count, response) => greet(response, count));
  let redirected = 0;
  const url = await serve(t, (_request, response) => {
    redirected++;
    response.writeHead(308, { location: app }).end();
  });
  t.equal((await verify(url, '--requests', '5')).status, 0);
  t.equal(redirected, 1, 'only by the first request');
  const endless = await serve(t, (_request, response) => response.writeHead(308, { location: '/' }).end());
  t.match(await verify(endless), { status: 2, err: 'redirects more than 5 times' });
});

await test('requests that fail are listed by reason', async (t) => {
  const url = await pretend(t, (count, response) => {
    if (count % 10 === 0) response.writeHead(503).end('The session store is not there\n');
    else if (count === 5) response.destroy();
    else if (count === 3) response.end('Hello #3\n');
    else greet(response, count);
  });
  t.match(await verify(url, '--requests', '30', '--concurrency', '1'), {
    status: 1,
    out: /Failed: 5 of 30 requests failed: its greeting names no dyno .*, the connection was lost, the app answered 503 "The session store is not there" \(3 times\)\.$/m,
  });
  const down = await pretend(t, (count, response) => (count === 1 ? greet(response, 1) : response.destroy()));
  t.match(await verify(down), { status: 1, out: /Gave up after \d\d requests of 100\.$/m });
});

await test('a session that is lost is found out', async (t) => {
  const url = await pretend(t, (count, response) => {
    if (count > 15) response.setHeader('set-cookie', ['theme=dark', `__Host-sid=other${count}; Secure`]);
    greet(response, count > 15 ? 1 : count);
  });
  t.match(await verify(url, '--concurrency', '1'), {
    status: 1,
    out: /count fell back to 1 at greeting 16, answered by web\.1: the session was lost, and another cookie set\.$/m,
  });
  const cookieless = await serve(t, (_request, response) => greet(response, 1));
  t.match(await verify(cookieless), { status: 1, out: 'Failed: the greeting set no session cookie.' });
});

/** Answers one after the other, with these numbers. */
function seen(...numbers: number[]): Answer[] {
  return numbers.map((number, index) => {
    const known = Math.max(0, ...numbers.slice(0, index));
    return { number, dyno: 'web.1', took: 1, known, replaced: false };
  });
}

await test('numbers that fall back, repeat or are missing are found out', async (t) => {
  const verdicts: [answers: Answer[], faults: string[]][] = [
    [seen(1, 2, 3), []],
    [seen(1, 3, 2), ['the count fell back to 2 at greeting 3, answered by web.1, after 3 had been shown']],
    [seen(1, 2, 4), ['1 of the numbers 1 to 3 is missing: 3']],
    [seen(1, 3, 5, 7, 9, 11, 13, 15), ['4 of the numbers 1 to 8 are missing: 2, 4, 6, 8']],
    [seen(1, 8, 9, 10), ['3 of the numbers 1 to 4 are missing: 2 to 4']],
    [seen(1, 2, 2), ['numbers were shown more than once: 2 (twice)', '1 of the numbers 1 to 3 is missing: 3']],
    [
      [...seen(1, 2, 4), { reason: 'no answer' }],
      [
        '1 of 4 requests failed: no answer',
        '1 of the numbers 1 to 4 is missing: 3 (a request that failed may have been counted)',
      ],
    ],
    [
      [...seen(1, 2), { number: 3, dyno: 'web.2', took: 1, known: 2, replaced: true }],
      ['another cookie was set at greeting 3, answered by web.2, though the count continued with 3'],
    ],
  ];
  for (const [answers, expected] of verdicts) t.strictSame(faults(answers), expected);
});

await test('while dynos and store come and go, 503 and a new session are no fault, but a repeated number is', async (t) => {
  const url = await pretend(t, (count, response) => {
    if (count === 31) response.setHeader('set-cookie', 'sid=second; Path=/; HttpOnly');
    if (count % 5 > 0) greet(response, count > 30 ? count - 30 : count);
    else response.writeHead(503).end('The session store cannot be reached\n');
  });
  const { status, out } = await verify(url, '--for', '3s', '--concurrency', '1');
  t.equal(status, 0, out);
  const numbers =
    /^Proved: of \d+ numbers none came twice in its session, and none was lower than one before, over 1 dyno\.$/m;
  t.match(out, numbers);
  t.match(out, /^\d+ of \d+ requests failed: the app answered 503 "The session store cannot be reached"\.$/m);
  t.match(out, /^The store forgot the session, and 1 new one started at 1\.$/m);

  const first = { ...seen(1)[0], session: 'a' } as Answer;
  const lost = { reason: 'the connection was lost', status: 502 };
  const replaced = { number: 1, dyno: 'web.2', session: 'b', took: 1, known: 1, replaced: true };
  t.strictSame(faults([first, ...seen(2, 3), { reason: 'the app answered 503', status: 503 }], 3), []);
  t.matchOnly(faults([first, lost], 3), [/^1 of 2 requests failed/]);
  t.matchOnly(faults(seen(1, 2, 2), 3), [/^numbers were shown more than once: 2 \(twice\)$/]);
  t.matchOnly(faults(seen(1, 3, 2), 3), [/^the count fell back to 2/]);
  t.matchOnly(faults([first, replaced], 3), [/^another cookie was set 1 times: the dynos do not share a store$/]);
});

await test('a proxy in the environment is named where it matters', async (t) => {
  const url = `http://127.0.0.1:${await freePort()}/`;
  const { err } = await run('verify', [url], { http_proxy: 'http://127.0.0.1:1' });
  t.match(err, /nothing listens there, without the proxy that http_proxy names; .* NODE_USE_ENV_PROXY=1/);
  t.match(await run('verify', [url], { HTTPS_PROXY: 'http://127.0.0.1:1' }), { err: /nothing listens there\.\n$/ });
});

await test('what is not there, or not this app, cannot be tried', async (t) => {
  const answers: [RequestListener, RegExp][] = [
    [(_request, response) => response.end('<h1>Hello #1</h1>'), /not a greeting such as "Hello #1"/],
    [(_request, response) => response.writeHead(404).end('\x1b[2J'), /the app answered 404\./],
    [(_request, response) => response.writeHead(503).end('Warming up\n'), /the app answered 503 "Warming up"\./],
  ];
  const urls: [url: string, reason: RegExp][] = [
    [`http://127.0.0.1:${await freePort()}`, /^Could not run: http:\S+: nothing listens there\.\n$/],
    ['http://no-such-host.invalid/', /there is no such host|cannot be looked up/],
    [(await serve(t, () => undefined)).replace('http', 'https'), /it does not speak https/],
  ];
  for (const [listener, reason] of answers) urls.push([await serve(t, listener), reason]);
  const outcomes = await Promise.all(urls.map(([url]) => verify(url)));
  for (const [index, [, err]] of urls.entries()) t.match(outcomes[index], { status: 2, out: '', err });
});

await test('wrong arguments are explained', async (t) => {
  const wrong: [args: string[], err: RegExp][] = [
    [[], /^Give an address: /],
    [['localhost:5006'], /^"localhost:5006" is not an address that begins with http/],
    [['http://a/', 'http://b/'], /^Give one address, not http:\/\/a\/ http:\/\/b\/\./],
    [['http://a/', '--requests', '1'], /^--requests is "1"; it must be a number from 2 to 1000000\./],
    [['http://a/', '--concurrency', 'many'], /^--concurrency is "many"; it must be a number from 1 to 1000\./],
    [['http://a/', '--for', '1h'], /^--for is "1h"; it must be a number of seconds from 1 to 3600\./],
    [['http://a/', '--for', '5s', '--requests', '5'], /^Give --for or --requests, not both\./],
    [['http://a/', '--what'], /^Unknown option '--what'\. See npm run/],
  ];
  const outcomes = await Promise.all(wrong.map(([args]) => verify(...args)));
  for (const [index, [, err]] of wrong.entries()) t.match(outcomes[index], { status: 2, out: '', err });
  t.match(await verify('--help'), { status: 0, out: /^Usage: npm run verify -- URL/, err: '' });
});

await test('a request without an answer for ten seconds has failed', async (t) => {
  t.match(await silentFromTheFirst, { status: 2, err: 'no answer within 10 s' });
  t.match(await silentOnce, { status: 1, out: 'Failed: 1 of 100 requests failed: no answer within 10 s.' });
  for (const action of teardowns) action();
});
