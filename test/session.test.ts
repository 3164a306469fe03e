import fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify';
import { test, type Test } from 'tap';
import { CountersUnavailable } from '../src/counters/counters.ts';
import { session } from '../src/session.ts';
import { Recorder, unavailable } from './support/recorder.ts';

const HTTPS = { 'x-forwarded-proto': 'https' };
/** Shaped like an id, and known to nobody. */
const FORGED = 'AAAAAAAAAAAAAAAAAAAAAAAA';

/** An app as somebody else would write it, who takes the session plugin along. */
async function build(t: Test): Promise<{ app: FastifyInstance; counters: Recorder; get: Get }> {
  const counters = new Recorder();
  const app = fastify({ trustProxy: true });
  app.register(session, { counters });
  app.get('/', (request) => request.session.increment());
  app.get('/at-once', (request) => Promise.all([request.session.increment(), request.session.increment()]));
  app.get('/end', async (request) => {
    await request.session.end();
    return 'ended';
  });
  app.get('/restart', async (request) => {
    await request.session.end();
    return request.session.increment();
  });
  app.get('/brief', async (request) => {
    await request.session.increment();
    await request.session.end();
    return 'brief';
  });
  app.setErrorHandler((error, _request, reply) => reply.code(error instanceof CountersUnavailable ? 503 : 500).send());
  t.teardown(() => app.close());
  await app.ready();
  counters.heard();
  return {
    app,
    counters,
    get: (url, sent, headers = {}) =>
      app.inject({ url, headers: { ...headers, ...(sent === undefined ? {} : { cookie: sent }) } }),
  };
}

type Get = (url: string, cookie?: string, headers?: Record<string, string>) => Promise<LightMyRequestResponse>;

/** The id that an answer sets, in a cookie of that name. */
function idOf({ cookies }: LightMyRequestResponse, name = 'sid'): string {
  return cookies.find((one) => one.name === name)?.value ?? '';
}

await test('an id holds at least 128 random bits', async (t) => {
  const { get } = await build(t);
  const ids = new Set<string>();
  let [everSet, neverClear] = [0n, -1n];
  for (let n = 0; n < 300; n += 1) {
    const id = idOf(await get('/'));
    ids.add(id);
    const bits = BigInt(`0x${Buffer.from(id, 'base64url').toString('hex')}`);
    everSet |= bits;
    neverClear &= bits;
  }
  t.equal(ids.size, 300, 'no two are the same');
  const changing = (everSet & ~neverClear).toString(2).replaceAll('0', '').length;
  t.ok(changing >= 128, `${changing} bits are now this, now that`);
});

await test('the store knows a digest of the id, not the id', async (t) => {
  const { get, counters } = await build(t);
  const id = idOf(await get('/'));
  await get('/', `sid=${id}`);
  await get('/', `sid=${id}`);
  await get('/end', `sid=${id}`);
  const keys = counters.asked.map((call) => call.split(' ')[1] ?? '');
  t.equal(keys.length, 4);
  t.equal(new Set(keys).size, 1, 'the same id is always the same key');
  for (const key of keys) {
    t.match(key, /^[\x21-\x7e]{30,32}$/, 'long enough that no two meet, short enough for the 96-byte slab class');
    t.notMatch(key, id.slice(0, 6));
    t.notMatch(id, key.slice(0, 6));
  }
});

await test('a cookie that is not shaped like an id never reaches the store', async (t) => {
  const { get, counters } = await build(t);
  const id = idOf(await get('/'));
  counters.heard();
  const malformed = [
    ...['', 'x', id.slice(0, -1), `${id}A`, `${id} ${id}`, `"${id}"`, `'${id}'`, id.repeat(200).slice(0, 4096)],
    ...['%0a', '%00', '=', '+', '/', '\u00e9', ','].map((last) => `${id.slice(1)}${last}`),
    ...['x'.repeat(4096), '%', '%ff%fe', '__proto__', 'get key', '{"count":7}'],
  ];
  for (const value of malformed) {
    const answer = await get('/', `sid=${value}`);
    t.match(answer, { statusCode: 200, body: '1' }, `sid=${value.slice(0, 40)}`);
    t.match(idOf(answer), /^[\w-]{24}$/);
    t.strictSame(counters.heard(), ['start'], 'only a new session is asked for');
  }
  for (const header of ['sid', '=', ';;;', `SID=${id}`, `xsid=${id}`, `a b=c; =${id}`, `sid ${id}`, '\u00ff']) {
    t.match(await get('/', header), { statusCode: 200, body: '1' }, header);
    t.strictSame(counters.heard(), ['start']);
  }
});

await test('of repeated cookies the first counts', async (t) => {
  const { get, counters } = await build(t);
  const [one, two] = [idOf(await get('/')), idOf(await get('/'))];
  await get('/', `sid=${one}`);
  t.equal((await get('/', `sid=${one}; sid=${two}`)).body, '3');
  t.equal((await get('/', `sid=${two}; sid=${one}`)).body, '2');
  t.equal((await get('/', `theme=dark; sid=${two};sid=junk`)).body, '3');
  counters.heard();
  t.equal((await get('/', `sid=junk; sid=${one}`)).body, '1');
  t.strictSame(counters.heard(), ['start'], 'also when it is junk');
});

await test('over https only the cookie counts that came over https', async (t) => {
  const { get, counters } = await build(t);
  const plain = idOf(await get('/'));
  const secure = idOf(await get('/', undefined, HTTPS), '__Host-sid');
  counters.heard();
  t.equal((await get('/', `sid=${secure}`, HTTPS)).body, '1');
  t.equal((await get('/', `__Host-sid=${plain}`)).body, '1');
  t.strictSame(counters.heard(), ['start', 'start']);
  t.equal((await get('/', `sid=${plain}; __Host-sid=${secure}`, HTTPS)).body, '2');
  const ended = await get('/end', `sid=${plain}`, HTTPS);
  t.notOk(ended.headers['set-cookie'], 'and the other is left alone');
});

await test('two increments at once are one session, also for an unknown id', async (t) => {
  const { get, counters } = await build(t);
  const answer = await get('/at-once', `sid=${FORGED}`);
  t.strictSame(answer.json(), [1, 2]);
  t.equal(answer.cookies.length, 1);
  t.strictSame((await get('/at-once', `sid=${idOf(answer)}`)).json(), [3, 4]);
  counters.heard();
  counters.failure = unavailable();
  const failed = await get('/at-once', `sid=${idOf(answer)}`);
  t.equal(failed.statusCode, 503);
  t.strictSame(counters.heard(), ['increment', 'increment'], 'the second asks also when the first fails');
});

await test('a session ended and started again in one request is another one', async (t) => {
  const { get, counters } = await build(t);
  const id = idOf(await get('/'));
  counters.heard();
  const answer = await get('/restart', `sid=${id}`);
  t.strictSame(counters.heard(), ['end', 'start'], 'the old id is not asked for again');
  t.equal(answer.body, '1');
  t.equal(answer.cookies.length, 1, 'one cookie is set, not one cleared and one set');
  t.match(idOf(answer), /^[\w-]{24}$/);
  t.not(idOf(answer), id);
  t.equal((await get('/', `sid=${idOf(answer)}`)).body, '2');
  t.equal((await get('/', `sid=${id}`)).body, '1', 'the old one is gone');
});

await test('ending clears the cookie that the request carried, also one of another shape, and sets none', async (t) => {
  const { get, counters } = await build(t);
  t.match((await get('/end', 'sid=junk')).headers['set-cookie'], /^sid=; Max-Age=0; Path=\/; /);
  t.strictSame(counters.heard(), [], 'where there is no id there is nothing to end');
  t.notOk((await get('/brief')).headers['set-cookie'], 'a cookie that the same request set is not set');
  t.strictSame(counters.heard(), ['start', 'end']);
});

await test('while the store cannot be reached, the cookie stays as it is', async (t) => {
  const { get, counters } = await build(t);
  const id = idOf(await get('/'));
  counters.failure = unavailable();
  for (const url of ['/', '/at-once', '/end', '/restart']) {
    for (const sent of [`sid=${id}`, `sid=${FORGED}`]) {
      t.match(await get(url, sent), { statusCode: 503, headers: { 'set-cookie': undefined } }, `${url} ${sent}`);
    }
  }
  t.match(await get('/'), { statusCode: 503, headers: { 'set-cookie': undefined } }, 'none is set for a new visitor');
  t.match(await get('/', 'sid=junk'), { statusCode: 503, headers: { 'set-cookie': undefined } });
  counters.failure = undefined;
  t.equal((await get('/', `sid=${id}`)).body, '2');
});

await test('a greeting waits for the store for a second, whatever it has to ask', async (t) => {
  const { get, counters } = await build(t);
  const began = performance.now();
  await get('/', `sid=${FORGED}`);
  await get('/end', `sid=${FORGED}`);
  const latest = performance.now() + 1000;
  const [increment, start, end] = counters.deadlines;
  t.equal(start, increment, 'an unknown id is asked for and replaced within the same second');
  for (const deadline of [increment, end]) t.ok(Number(deadline) >= began + 1000 && Number(deadline) <= latest);
  t.equal(counters.deadlines.length, 3);
});
