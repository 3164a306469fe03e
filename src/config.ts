import type { Address, Credentials } from './counters/connection.js';

/** What the environment asks for. A `Config` that exists is valid. */
export interface Config {
  readonly port: number;
  readonly host: string;
  readonly onHeroku: boolean;
  /** The name of this dyno, such as `web.1`, or `local`. */
  readonly dyno: string;
  /** Where the counts live; undefined means in this process's memory. */
  readonly memcached: { readonly servers: Address[]; readonly credentials: Credentials } | undefined;
  /** In seconds. */
  readonly sessionTtl: number;
  readonly logLevel: string;
}

/** All that is wrong in the environment, one line for each variable. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const MEMCACHED_PORT = 11211;
/** What the names of a Memcached's variables begin with; the first of them that is present counts. */
const PROVIDERS = ['MEMCACHIER', 'MEMCACHEDCLOUD', 'MEMCACHE'];
const SERVER = /^(?:\[([\da-f:.]+)\]|([\w.-]+))(?::(\d+))?$/i;

/**
 * Reads the environment. A variable set to the empty string counts as not set.
 *
 * @throws {ConfigError} with every complaint at once
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const complaints: string[] = [];
  const onHeroku = Boolean(env.DYNO);
  const config: Config = {
    port: integer('PORT', 3000, 0, 65_535, 'a port'),
    host: env.HOST || (onHeroku ? '0.0.0.0' : 'localhost'),
    onHeroku,
    dyno: text('DYNO', 'local', "a dyno's name, such as web.1", (value) => /^[\x21-\x7e]+$/.test(value)),
    memcached: memcached(),
    // memcached's clock ticks in seconds, and takes more than 30 days for a date.
    sessionTtl: integer('SESSION_TTL', 86_400, 2, 2_592_000, 'a number of seconds'),
    logLevel: text('LOG_LEVEL', 'info', `one of ${LOG_LEVELS.join(', ')}`, (value) => LOG_LEVELS.includes(value)),
  };
  if (complaints.length > 0) throw new ConfigError(complaints.join('\n'));
  return config;

  function text(name: string, fallback: string, allowed: string, isAllowed: (value: string) => boolean): string {
    const value = env[name] || fallback;
    if (!isAllowed(value)) complaints.push(`${name} is ${JSON.stringify(value)}; it has to be ${allowed}`);
    return value;
  }

  function integer(name: string, fallback: number, least: number, most: number, what: string): number {
    const isAllowed = (value: string): boolean => /^\d{1,9}$/.test(value) && +value >= least && +value <= most;
    return Number(text(name, String(fallback), `${what} from ${least} to ${most}`, isAllowed));
  }

  function memcached(): Config['memcached'] {
    const counters = text('COUNTERS', '', 'memory, or not set', (value) => value === '' || value === 'memory');
    if (counters === 'memory') return undefined;
    const provider = PROVIDERS.find((name) =>
      ['SERVERS', 'USERNAME', 'PASSWORD'].some((suffix) => env[`${name}_${suffix}`]),
    );
    if (provider) return { servers: servers(`${provider}_SERVERS`), credentials: credentials(provider) };
    if (onHeroku) {
      complaints.push(
        'MEMCACHIER_SERVERS is not set; on Heroku the dynos need a Memcached to share, which this command adds: ' +
          'heroku addons:create memcachier:dev (COUNTERS=memory shows what goes wrong without)',
      );
    }
    return undefined;
  }

  function servers(name: string): Address[] {
    const list = env[name] || '';
    const addresses = list.split(',').map((server) => {
      const [, ipv6, host = ipv6, port = MEMCACHED_PORT] = SERVER.exec(server.trim()) ?? [];
      return { host: host ?? '', port: +port };
    });
    if (addresses.every(({ host, port }) => host && port > 0 && port <= 65_535)) return addresses;
    // What stands before an @ is mostly a password.
    const is = list.includes('@') ? 'holds an @' : `is ${JSON.stringify(list)}`;
    complaints.push(`${name} ${is}; it has to be host or host:port, several separated by commas`);
    return [];
  }

  function credentials(provider: string): Credentials {
    const [name, other] = [`${provider}_USERNAME`, `${provider}_PASSWORD`];
    const [username, password] = [env[name] || undefined, env[other] || undefined];
    if (username && !password) complaints.push(`${other} is not set; it has to be, as ${name} is`);
    if (password && !username) complaints.push(`${name} is not set; it has to be, as ${other} is`);
    return { username, password };
  }
}
