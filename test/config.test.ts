import { test } from 'tap';
import { ConfigError, providerIn, readConfig } from '../src/config.ts';

type Environment = Record<string, string>;

const NO_LOGIN = { username: undefined, password: undefined };
const LOCAL = { host: 'localhost', port: 11_211, ...NO_LOGIN };

/** The complaints about an environment, one by one. */
function complaints(env: Environment): string[] {
  try {
    readConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n');
    throw error;
  }
}

await test('an empty environment means the machine of a developer', async (t) => {
  const config = {
    port: 3000,
    host: 'localhost',
    onHeroku: false,
    dyno: 'local',
    memcached: undefined,
    sessionTtl: 86_400,
    logLevel: 'info',
  };
  t.strictSame(readConfig({}), config);
  const names = ['PORT', 'HOST', 'DYNO', 'COUNTERS', 'SESSION_TTL', 'LOG_LEVEL'];
  const sets = ['MEMCACHIER', 'MEMCACHEDCLOUD', 'MEMCACHE'].flatMap((name) =>
    ['SERVERS', 'USERNAME', 'PASSWORD'].map((suffix) => `${name}_${suffix}`),
  );
  const empty = Object.fromEntries([...names, ...sets].map((name) => [name, '']));
  t.strictSame(readConfig(empty), config, 'a variable set to the empty string counts as not set');
});

await test('on Heroku the process listens on every address', async (t) => {
  const heroku = { DYNO: 'web.12', MEMCACHIER_SERVERS: 'mc.example' };
  t.match(readConfig(heroku), { host: undefined, onHeroku: true, dyno: 'web.12' });
  t.match(readConfig({ ...heroku, HOST: '127.0.0.1' }), { host: '127.0.0.1' });
  t.match(readConfig({ HOST: '::' }), { host: '::', onHeroku: false });
});

await test('the first provider set wins', async (t) => {
  const login = { username: 'u', password: 'p w:@,' };
  const env: Environment = {};
  for (const name of ['MEMCACHE', 'MEMCACHEDCLOUD', 'MEMCACHIER']) {
    const host = `${name.toLowerCase()}.example`;
    env[`${name}_SERVERS`] = `${host}:12345`;
    t.strictSame(readConfig(env).memcached, [{ host, port: 12_345, ...NO_LOGIN }], name);
    env[`${name}_USERNAME`] = login.username;
    env[`${name}_PASSWORD`] = login.password;
    t.strictSame(readConfig(env).memcached, [{ host, port: 12_345, ...login }], name);
    t.equal(providerIn(env), name);
  }
  t.strictSame(readConfig({ MEMCACHIER_SERVERS: '', MEMCACHE_SERVERS: 'localhost' }).memcached, [LOCAL]);
});

await test('servers are host or host:port, several separated by commas', async (t) => {
  const servers = (list: string): unknown => readConfig({ MEMCACHE_SERVERS: list }).memcached;
  t.strictSame(servers('localhost'), [LOCAL]);
  t.strictSame(servers('mc1.ec2.example:11211, 192.0.2.7:1 ,[2001:db8::1]:65535,[::1]'), [
    { ...LOCAL, host: 'mc1.ec2.example' },
    { ...LOCAL, host: '192.0.2.7', port: 1 },
    { ...LOCAL, host: '2001:db8::1', port: 65_535 },
    { ...LOCAL, host: '::1' },
  ]);
});

await test('COUNTERS=memory keeps the counts in memory, whatever else is set', async (t) => {
  for (const env of [{}, { DYNO: 'web.1' }, { MEMCACHIER_SERVERS: 'localhost' }, { MEMCACHE_SERVERS: 'http://x' }]) {
    t.equal(readConfig({ ...env, COUNTERS: 'memory' }).memcached, undefined);
  }
});

await test('numbers and levels at their limits are accepted', async (t) => {
  t.match(readConfig({ PORT: '65535', SESSION_TTL: '2592000' }), { port: 65_535, sessionTtl: 2_592_000 });
  t.match(readConfig({ PORT: '1', SESSION_TTL: '2' }), { port: 1, sessionTtl: 2 });
  for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']) {
    t.equal(readConfig({ LOG_LEVEL: level }).logLevel, level);
  }
});

await test('every mistake is told in one line: the variable, its value, and what it should be', async (t) => {
  const wrong: [string, string[], RegExp][] = [
    ['PORT', ['abc', '-1', '65536', '99999', '3000x', '3e3', '1.5', ' ', '0x10', '9'.repeat(400)], /from 0 to 65535$/],
    ['SESSION_TTL', ['0', '1', '2592001', '2678400', 'abc', '-5', '60s', '1e3', '\n60'], /from 2 to 2592000$/],
    ['LOG_LEVEL', ['verbose', 'INFO', 'info ', '30', 'constructor'], /trace, debug, info, warn, error, fatal, silent/],
    ['COUNTERS', ['redis', 'Memory', 'true'], /memory/],
    ['HOST', ['a b', ' ', ' localhost'], /a host name or an address/],
    [
      'MEMCACHE_SERVERS',
      ['http://localhost', 'memcached://localhost:11211', 'a:99999', 'a:0', 'a:', ':1'],
      /host:port/,
    ],
    [
      'MEMCACHE_SERVERS',
      ['a:abc', 'a,,b', 'a,', ',', 'a b', 'a;b', '::1', '[::1', 'a:1:2', 'a\nb', 'a/1', 'a:-1'],
      /host/,
    ],
  ];
  for (const [name, values, allowed] of wrong) {
    for (const value of values) {
      const [complaint = '', ...others] = complaints({ [name]: value });
      t.strictSame(others, [], `one line for ${name}=${value.slice(0, 20)}`);
      t.ok(complaint.startsWith(`${name} is ${JSON.stringify(value)}`), complaint.slice(0, 100));
      t.match(complaint, allowed);
    }
  }
  const told = `DYNO is "web 1"; it must be a dyno's name, such as web.1`;
  t.matchOnly(complaints({ DYNO: 'web 1', COUNTERS: 'memory' }), [told]);
});

await test('a control character in any variable is a complaint, which shows it unless it is in a login', async (t) => {
  const values = {
    ...{ PORT: '3000', HOST: 'localhost', DYNO: 'web.1', SESSION_TTL: '60', LOG_LEVEL: 'info' },
    ...{ MEMCACHE_SERVERS: 'mc.example', MEMCACHE_USERNAME: 'me', MEMCACHE_PASSWORD: 'hunter2' },
  };
  t.strictSame(complaints(values), []);
  for (const [name, value] of Object.entries({ ...values, COUNTERS: 'memory' })) {
    for (const wrong of [`${value}\r`, `${value}\n`, `\t${value}`, `${value}\x7f`, `${value}\x85`]) {
      const [complaint, ...others] = complaints({ ...values, [name]: wrong });
      t.strictSame(others, []);
      const isLogin = /USERNAME|PASSWORD/.test(name);
      t.match(complaint, `${name} ${isLogin ? 'contains a control character' : `is ${JSON.stringify(wrong)}`}`);
      if (isLogin) t.notMatch(complaint, value);
    }
  }
  t.strictSame(complaints({ ...values, MEMCACHE_PASSWORD: '"hunter2"' }), [], 'quotes may belong to a password');
});

await test('all mistakes are told at once', async (t) => {
  const wrong = { PORT: 'abc', DYNO: 'web 1', COUNTERS: 'redis', SESSION_TTL: '0', LOG_LEVEL: 'loud' };
  const half = { MEMCACHIER_SERVERS: 'http://localhost', MEMCACHIER_USERNAME: 'u' };
  const told = complaints({ ...wrong, ...half }).map((complaint) => complaint.split(' ')[0]);
  t.strictSame(told.sort(), [...Object.keys(wrong), 'MEMCACHIER_SERVERS', 'MEMCACHIER_PASSWORD'].sort());
});

await test('on Heroku without Memcached the complaint names the command that adds the add-on', async (t) => {
  const told = /^MEMCACHIER_SERVERS is not set.*heroku addons:create memcachier:dev/;
  t.matchOnly(complaints({ DYNO: 'web.1' }), [told]);
});

await test('half a login is refused, and so is a login without servers', async (t) => {
  for (const name of ['MEMCACHIER', 'MEMCACHEDCLOUD', 'MEMCACHE']) {
    for (const set of ['SERVERS PASSWORD', 'SERVERS USERNAME', 'USERNAME PASSWORD', 'USERNAME', 'PASSWORD']) {
      const env = Object.fromEntries(set.split(' ').map((suffix) => [`${name}_${suffix}`, 'x']));
      const missing = ['USERNAME', 'PASSWORD', 'SERVERS'].filter((suffix) => !set.includes(suffix));
      const told = complaints(env).map((complaint) => complaint.replace(/(_\w+) is not set.*/, '$1'));
      t.equal(told.join(), missing.map((suffix) => `${name}_${suffix}`).join());
    }
  }
});

await test('no complaint tells a password', async (t) => {
  const login = { MEMCACHE_USERNAME: 'u', MEMCACHE_PASSWORD: 'hunter2' };
  for (const [env, complaint] of [
    [{ ...login, MEMCACHE_SERVERS: 'localhost:99999' }, /^MEMCACHE_SERVERS is/],
    [{ ...login, MEMCACHE_SERVERS: 'localhost', MEMCACHE_USERNAME: '' }, /^MEMCACHE_USERNAME is not set/],
    [{ MEMCACHE_SERVERS: 'memcached://u:hunter2@localhost:11211' }, /^MEMCACHE_SERVERS contains an @; it must be host/],
    [{ ...login, MEMCACHIER_SERVERS: 'ok,u:hunter2@localhost' }, /^MEMCACHIER_SERVERS contains an @/],
  ] as const) {
    const told = complaints(env);
    t.matchOnly(told, [complaint]);
    t.notMatch(told.join(), 'hunter2');
  }
});
