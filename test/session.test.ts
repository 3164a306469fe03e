import { Readable } from 'node:stream';
import cookie from '@fastify/cookie';
import fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyRequest } from 'fastify';
import { test, type Test } from 'tap';
import { MemoryCounters } from '../src/counters/memory.ts';
import { session } from '../src/session.ts';
import { Recorder, unavailable } from './support/recorder.ts';

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly setCookies: readonly string[];
}

type Get = (url: string, cookie?: string) => Promise<Answer>;

/** Shaped like an id, and known to nobody. */
const FORGED = 'AAAAAAAAAAAAAAAAAAAAAAAA';
const HTTPS = { 'x-forwarded-proto': 'https' };

const routes: FastifyPluginAsync = async (app) => {
  app.get('/', async (request) => String(await request.session.increment()));
  app.get('/at-once', async (request) => {
    return String(await Promise.all([request.session.increment(), request.session.increment()]));
  });
  app.get('/idle', async () => 'idle');
  app.get('/end', async (request) => {
    await request.session.end();
    return 'ended';
  });
  app.get('/restart', async (request) => {
    await request.session.end();
    return String(await request.session.increment());
  });
  app.get('/brief', async (request) => {
    await request.session.increment();
    await request.session.end();
    return 'brief';
  });
  app.get('/fail', async (request) => {
    throw new Error(`failed at ${await request.session.increment()}`);
  });
  app.get('/stream', async (request, reply) => {
    return reply.send(Readable.from([String(await request.session.increment()), ' streamed']));
  });
  app.get('/others', async (request, reply) => {
    const setCookie = (name: string): unknown => app.hasPlugin('@fastify/cookie') && reply.setCookie(name, '1');
    void reply.header('set-cookie', 'one=1');
    setCookie('two');
    const count = await request.session.increment();
    setCookie('three');
    void reply.header('set-cookie', 'four=1');
    return String(count);
  });
};

function inject(app: FastifyInstance, headers: Record<string, string> = {}): Get {
  return async (url, cookie) => {
    const response = await app.inject({ url, headers: { ...headers, ...(cookie === undefined ? {} : { cookie }) } });
    return {
      status: response.statusCode,
      body: response.body,
      setCookies: [response.headers['set-cookie'] ?? []].flat(),
    };
  };
}

/** Over a socket. */
async function listen(app: FastifyInstance, headers: Record<string, string> = {}): Promise<Get> {
  const origin = await app.listen({ port: 0, host: '127.0.0.1' });
  return async (url, cookie) => {
    const sent = { connection: 'close', ...headers, ...(cookie === undefined ? {} : { cookie }) };
    const response = await fetch(`${origin}${url}`, { headers: sent });
    return { status: response.status, body: await response.text(), setCookies: response.headers.getSetCookie() };
  };
}

/** An app as somebody else would write it, who takes the session plugin along. */
async function build(t: Test): Promise<{ counters: Recorder; get: Get; getSecurely: Get }> {
  const counters = new Recorder();
  const app = fastify({ trustProxy: true });
  app.register(session, { counters });
  app.register(routes);
  t.teardown(() => app.close());
  await app.ready();
  counters.heard();
  return { counters, get: inject(app), getSecurely: inject(app, HTTPS) };
}

/** The id that an answer sets, in a cookie of that name. */
function idOf({ setCookies }: Answer, name = 'sid'): string {
  return setCookies.find((cookie) => cookie.startsWith(`${name}=`))?.slice(name.length + 1, name.length + 25) ?? '';
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
    t.match(answer, { status: 200, body: '1' }, `sid=${value.slice(0, 40)}`);
    t.match(idOf(answer), /^[\w-]{24}$/);
    t.strictSame(counters.heard(), ['start'], 'only a new session is asked for');
  }
  for (const header of ['sid', '=', ';;;', `SID=${id}`, `xsid=${id}`, `a b=c; =${id}`, `sid ${id}`, '\u00ff']) {
    t.match(await get('/', header), { status: 200, body: '1' }, header);
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
  const { get, getSecurely, counters } = await build(t);
  const plain = idOf(await get('/'));
  const secure = idOf(await getSecurely('/'), '__Host-sid');
  counters.heard();
  t.equal((await getSecurely('/', `sid=${secure}`)).body, '1');
  t.equal((await get('/', `__Host-sid=${plain}`)).body, '1');
  t.strictSame(counters.heard(), ['start', 'start']);
  t.equal((await getSecurely('/', `sid=${plain}; __Host-sid=${secure}`)).body, '2');
  t.strictSame((await getSecurely('/end', `sid=${plain}`)).setCookies, [], 'and the other is left alone');
});

await test('two increments at once are one session, also for an unknown id', async (t) => {
  const { get, counters } = await build(t);
  const answer = await get('/at-once', `sid=${FORGED}`);
  t.equal(answer.body, '1,2');
  t.equal(answer.setCookies.length, 1);
  t.equal((await get('/at-once', `sid=${idOf(answer)}`)).body, '3,4');
  counters.heard();
  counters.failure = unavailable();
  t.equal((await get('/at-once', `sid=${idOf(answer)}`)).status, 503);
  t.strictSame(counters.heard(), ['increment', 'increment'], 'the second asks also when the first fails');
});

await test('a session ended and started again in one request is another one', async (t) => {
  const { get, counters } = await build(t);
  const id = idOf(await get('/'));
  counters.heard();
  const answer = await get('/restart', `sid=${id}`);
  t.strictSame(counters.heard(), ['end', 'start'], 'the old id is not asked for again');
  t.equal(answer.body, '1');
  t.equal(answer.setCookies.length, 1, 'one cookie is set, not one cleared and one set');
  t.match(idOf(answer), /^[\w-]{24}$/);
  t.not(idOf(answer), id);
  t.equal((await get('/', `sid=${idOf(answer)}`)).body, '2');
  t.equal((await get('/', `sid=${id}`)).body, '1', 'the old one is gone');
});

await test('ending clears the cookie that the request carried, also one of another shape, and sets none', async (t) => {
  const { get, counters } = await build(t);
  t.match((await get('/end', 'sid=junk')).setCookies[0], /^sid=; Max-Age=0; Path=\/; /);
  t.strictSame(counters.heard(), [], 'where there is no id there is nothing to end');
  t.strictSame((await get('/brief')).setCookies, [], 'a cookie that the same request set is not set');
  t.strictSame(counters.heard(), ['start', 'end']);
});

await test('while the store cannot be reached, the cookie stays as it is', async (t) => {
  const { get, counters } = await build(t);
  const id = idOf(await get('/'));
  counters.failure = unavailable();
  const unchanged = { status: 503, setCookies: { length: 0 } };
  for (const url of ['/', '/at-once', '/end', '/restart']) {
    for (const sent of [`sid=${id}`, `sid=${FORGED}`]) {
      t.match(await get(url, sent), unchanged, `${url} ${sent}`);
    }
  }
  for (const sent of [undefined, 'sid=junk']) t.match(await get('/', sent), unchanged, 'none is set for a new visitor');
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

// In apps that are not ours: each is visited in the same way, and must answer in the same way.

/** Visits the routes, and gives what was answered, set and asked of the store each time, with `ID` for each new id. */
async function visit(get: Get, counters: Recorder, name: string, prefix = ''): Promise<string[]> {
  const seen: string[] = [];
  await get(`${prefix}/idle`);
  counters.heard();
  const go = async (url: string, id?: string): Promise<string> => {
    const { status, body, setCookies } = await get(prefix + url, id === undefined ? undefined : `a=b; ${name}=${id}`);
    const own = setCookies.filter((cookie) => cookie.startsWith(`${name}=`));
    const [, value = ''] = /=([^;]*)/.exec(own[0] ?? '') ?? [];
    const line = `${url} ${status} ${status === 200 ? body : ''} [${own.join()}] ${counters.heard().join(' ')}`;
    seen.push(/^[\w-]{24}$/.test(value) && value !== id ? line.replace(value, 'ID') : line);
    if (url === '/others') seen.push(String(new Set(setCookies.map((cookie) => cookie.split('=')[0])).size));
    return value;
  };
  await go('/idle');
  const id = await go('/');
  await go('/', id);
  await go('/', id);
  await go('/idle', id);
  await go('/nowhere', id);
  const other = await go('/at-once');
  await go('/at-once', other);
  await go('/others');
  await go('/stream');
  await go('/fail');
  await go('/', FORGED);
  await go('/', 'junk');
  await go('/end', id);
  await go('/', id);
  await go('/end');
  return seen;
}

/** What `visit` must see. */
function promised(name: string, others: number): string[] {
  const attributes = `Path=/; HttpOnly; ${name.startsWith('__Host-') ? 'Secure; ' : ''}SameSite=Lax`;
  const set = `[${name}=ID; ${attributes}]`;
  const cleared = `[${name}=; Max-Age=0; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; ${attributes.slice(8)}]`;
  return [
    '/idle 200 idle [] ',
    `/ 200 1 ${set} start`,
    '/ 200 2 [] increment',
    '/ 200 3 [] increment',
    '/idle 200 idle [] ',
    '/nowhere 404  [] ',
    `/at-once 200 1,2 ${set} start increment`,
    '/at-once 200 3,4 [] increment increment',
    `/others 200 1 ${set} start`,
    String(others + 1),
    `/stream 200 1 streamed ${set} start`,
    `/fail 500  ${set} start`,
    `/ 200 1 ${set} increment start`,
    `/ 200 1 ${set} start`,
    `/end 200 ended ${cleared} end`,
    `/ 200 1 ${set} increment start`,
    '/end 200 ended [] ',
  ];
}

const EACH = {
  domain: 'example.com',
  signed: true,
  encode: (value: string) => Buffer.from(value).toString('hex'),
  decode: () => 'decoded',
  path: '/elsewhere',
  maxAge: 60,
  expires: new Date(2e12),
  partitioned: true,
  priority: 'high',
  httpOnly: false,
  secure: true,
  sameSite: 'none',
};
const HOSTS = [
  {},
  ...Object.entries(EACH).map(([name, value]) => ({ parseOptions: { [name]: value } })),
  ...(['onRequest', 'preParsing', 'preValidation', 'preHandler', false] as const).map((hook) => ({
    hook,
    parseOptions: EACH,
  })),
];

await test('whatever is set for other cookies, the cookie is as promised', async (t) => {
  for (const host of HOSTS) {
    for (const isFirst of 'hook' in host ? [true, false] : [true]) {
      const counters = new Recorder();
      const app = fastify({ trustProxy: true });
      if (isFirst) app.register(cookie, { secret: 'a secret', ...host });
      app.register(session, { counters });
      if (!isFirst) app.register(cookie, { secret: 'a secret', ...host });
      app.register(routes);
      const what = `${JSON.stringify(host)}, ${isFirst ? 'before' : 'after'} the session`;
      t.strictSame(await visit(inject(app), counters, 'sid'), promised('sid', 4), `http, ${what}`);
      const secure = await visit(inject(app, HTTPS), counters, '__Host-sid');
      t.strictSame(secure, promised('__Host-sid', 4), `https, ${what}`);
      await app.close();
    }
  }
});

await test('over a socket, in scopes, under prefixes, with other cookie plugins or none', async (t) => {
  const hosts: [string, (app: FastifyInstance, counters: Recorder) => unknown][] = [
    ['nothing else', (app, counters) => app.register(session, { counters }).register(routes)],
    ['a prefix', (app, counters) => app.register(session, { counters }).register(routes, { prefix: '/p' })],
    [
      'a scope',
      (app, counters) =>
        app.register(async (scope) => scope.register(session, { counters }).register(routes), { prefix: '/p' }),
    ],
    [
      'another plugin that decorates with cookies',
      (app, counters) => {
        app.decorateRequest('cookies').decorateReply('setCookie', () => undefined as never);
        app.register(session, { counters }).register(routes);
      },
    ],
  ];
  for (const [name, build] of hosts) {
    for (const isSecure of [false, true]) {
      const counters = new Recorder();
      const app = fastify({ trustProxy: true });
      await build(app, counters);
      const [headers, cookieName] = isSecure ? [HTTPS, '__Host-sid'] : [{}, 'sid'];
      const get = await listen(app, headers);
      const prefix = app.hasRoute({ method: 'GET', url: '/p/idle' }) ? '/p' : '';
      t.strictSame(await visit(get, counters, cookieName, prefix), promised(cookieName, 2), `${name}, ${isSecure}`);
      await app.close();
    }
  }
});

await test('it can be used in every hook before the response is sent', async (t) => {
  for (const hook of ['onRequest', 'preParsing', 'preValidation', 'preHandler', 'preSerialization'] as const) {
    for (const isFirst of [true, false]) {
      const app = fastify();
      const add = (): void => {
        app.addHook(hook, async (request: FastifyRequest) => {
          await request.session.increment();
        });
      };
      if (isFirst) add();
      app.register(session, { counters: new MemoryCounters(60) });
      if (!isFirst) app.after(add);
      app.get('/', async (request) => ({ count: await request.session.increment() }));
      const get = inject(app);
      const first = await get('/');
      const next = await get('/', first.setCookies[0]?.split(';')[0]);
      const isEarlier = hook !== 'preSerialization';
      t.match(first, { body: `{"count":${isEarlier ? 2 : 1}}`, setCookies: { length: 1 } }, hook);
      t.match(next, { body: `{"count":${isEarlier ? 4 : 3}}`, setCookies: { length: 0 } }, hook);
      await app.close();
    }
  }
});

await test('error handlers and those of a 404 can use it, and a hook that fails sets no cookie twice', async (t) => {
  const app = fastify();
  app.register(session, { counters: new MemoryCounters(60) });
  app.after(() => {
    app.addHook('onSend', async ({ url }, { statusCode }) => {
      if (url === '/hook' && statusCode === 200) throw new Error('a hook failed');
    });
    app.setNotFoundHandler(async (request) => `nothing here, ${await request.session.increment()}`);
    app.setErrorHandler(async (error, request, reply) => {
      void reply.code(500);
      return `${String(error)}, ${await request.session.increment()}`;
    });
    app.get('/hook', async (request) => request.session.increment());
    app.get('/fail', async () => Promise.reject(new Error('failed')));
  });
  const get = inject(app);
  t.match(await get('/nowhere'), { body: 'nothing here, 1', setCookies: { length: 1 } });
  t.match(await get('/fail'), { body: 'Error: failed, 1', setCookies: { length: 1 } });
  t.match(await get('/hook'), { body: 'Error: a hook failed, 2', setCookies: { length: 1 } });
  await app.close();
});

await test('two apps on one host, or two parts of an app, have cookies of their own, and a third has none', async (t) => {
  const counters = new MemoryCounters(60);
  const app = fastify();
  for (const cookieName of ['left', 'right']) {
    app.register(async (part) => part.register(session, { counters, cookieName }).register(routes), {
      prefix: `/${cookieName}`,
    });
  }
  app.get('/', async (request) => String('session' in request));
  const get = inject(app);
  t.equal((await get('/')).body, 'false');
  const [left, right] = [await get('/left/'), await get('/right/')];
  const jar = [...left.setCookies, ...right.setCookies].map((set) => set.split(';')[0]).join('; ');
  t.match(jar, /^left=[\w-]{24}; right=[\w-]{24}$/);
  for (const count of ['2', '3'])
    for (const url of ['/left/', '/right/']) t.match(await get(url, jar), { body: count, setCookies: { length: 0 } });
  await get('/left/end', jar);
  t.equal((await get('/right/', jar)).body, '4', 'and one is ended without the other');
  await app.close();
});

await test('a request without a protocol has a session, whose cookie is not secure', async (t) => {
  const app = fastify();
  await app.register(session, { counters: new MemoryCounters(60) });
  app.addHook('onRequest', async (request) => void Object.defineProperty(request, 'protocol', { value: undefined }));
  await app.register(routes);
  const { body, setCookies } = await inject(app)('/');
  t.equal(body, '1');
  t.matchOnly(setCookies, [/^sid=/]);
  await app.close();
});

async function refusal(options: object, version?: string): Promise<Error | undefined> {
  const app = fastify();
  if (version !== undefined) Object.defineProperty(app, 'version', { value: version });
  try {
    await app.register(session, options as { counters: MemoryCounters });
    return undefined;
  } catch (error) {
    return error as Error;
  } finally {
    await app.close();
  }
}

await test('what cannot work is refused at the start, in plain words', async (t) => {
  const counters = new MemoryCounters(60);
  for (const cookieName of [
    '',
    'a b',
    'a=b',
    'a;b',
    'a\n',
    '\u00e4',
    '"a"',
    '__Host-a',
    '__host-a',
    '__Secure-a',
    '__Http-a',
  ])
    t.match(await refusal({ counters, cookieName }), {
      name: 'TypeError',
      message: `${JSON.stringify(cookieName)} cannot be the name of a cookie`,
    });
  for (const cookieName of ['a', 'A-b.c_1', '__Hosta', undefined])
    t.equal(await refusal({ counters, cookieName }), undefined);
  t.match(await refusal({}), { name: 'TypeError', message: /^The session needs counters/ });
  for (const version of ['4.29.1', '6.0.0'])
    t.match(
      (await refusal({ counters }, version))?.message,
      `hello-n-session - expected '5.x' fastify version, '${version}'`,
    );
});

await test('an app tells failures apart by their code, and without an error handler answers 503 with it', async (t) => {
  const counters = new Recorder();
  const app = fastify();
  app.register(session, { counters });
  app.register(routes);
  app.register(async (part: FastifyInstance) => {
    part.setErrorHandler<Error & { code: string }>(async ({ name, code }) => `${name} ${code}`);
    await part.register(routes, { prefix: '/own' });
  });
  const get = inject(app);
  for (const [code, message] of [
    ['ERR_COUNTERS_UNAVAILABLE', 'The session store cannot be reached'],
    ['ERR_COUNTERS_WARMING_UP', 'The session store is warming up'],
  ] as const) {
    counters.failure = unavailable(code);
    const { status, body, setCookies } = await get('/');
    t.strictSame({ status, setCookies }, { status: 503, setCookies: [] });
    t.strictSame(JSON.parse(body), { statusCode: 503, code, error: 'Service Unavailable', message });
    t.equal((await get('/own/')).body, `CountersUnavailable ${code}`);
  }
  await app.close();
});
