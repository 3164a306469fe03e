// The environment: read once, into a `Config` that is valid, or every complaint about it at once.

import type { MemcachedServer } from './memcached/server.ts';

/** What the environment asks for. */
export interface Config {
  readonly port: number;
  /** Undefined means every address, IPv6 as well if the machine has it. */
  readonly host: string | undefined;
  readonly onHeroku: boolean;
  /** The dyno's name; `local` off Heroku. */
  readonly dyno: string;
  /** Undefined if the counts live in this process's memory. */
  readonly memcached: readonly MemcachedServer[] | undefined;
  /** How long a session lives after its last greeting, in seconds. */
  readonly sessionTtl: number;
  /** One of pino's levels, or `silent`. */
  readonly logLevel: string;
}

/** Its message is every complaint about the environment, one line for each variable. */
export class ConfigError extends Error {}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const PROVIDERS = ['MEMCACHIER', 'MEMCACHEDCLOUD', 'MEMCACHE'];
/** Visible ASCII: DYNO becomes a header. */
const isVisible = (value: string): boolean => /^[!-~]*$/.test(value);
/** `[IPv6]` or a name or an IPv4 address, with or without a port, perhaps between spaces. */
const ADDRESS = /^ *(?:\[([\da-f:.]+)\]|([\w.-]+))(?::(\d+))? *$/i;

/** The first provider that is set in the environment, by any of its three variables. */
export function providerIn(env: NodeJS.ProcessEnv): string | undefined {
  return PROVIDERS.find((name) => env[`${name}_SERVERS`] || env[`${name}_USERNAME`] || env[`${name}_PASSWORD`]);
}

/** Reads the environment, where an empty variable counts as not set. Throws a ConfigError with every complaint at once. */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const complaints: string[] = [];
  const onHeroku = Boolean(env.DYNO);
  const config = {
    port: integer('PORT', 3000, 0, 65_535, 'a port'),
    host: text('HOST', onHeroku ? '' : 'localhost', 'a host name or an address', isVisible) || undefined,
    onHeroku,
    dyno: text('DYNO', 'local', "a dyno's name, such as web.1", isVisible),
    memcached: memcachedServers(),
    // Memcached counts whole seconds, so 1 may expire at once. It reads more than 30 days as a date.
    sessionTtl: integer('SESSION_TTL', 86_400, 2, 30 * 86_400, 'a number of seconds'),
    logLevel: text('LOG_LEVEL', 'info', `one of ${LOG_LEVELS.join(', ')}`, (value) => LOG_LEVELS.includes(value)),
  };
  if (complaints.length > 0) throw new ConfigError(complaints.join('\n'));
  return config;

  function text(name: string, fallback: string, allowed: string, isAllowed: (value: string) => boolean): string {
    const value = env[name] || fallback;
    if (!isAllowed(value)) complaints.push(`${name} is ${JSON.stringify(value)}; it must be ${allowed}`);
    return value;
  }

  function integer(name: string, fallback: number, least: number, most: number, what: string): number {
    const isAllowed = (value: string): boolean => /^\d{1,9}$/.test(value) && +value >= least && +value <= most;
    return Number(text(name, String(fallback), `${what} from ${least} to ${most}`, isAllowed));
  }

  function memcachedServers(): MemcachedServer[] | undefined {
    if (text('COUNTERS', '', 'memory, or not set', (value) => /^(memory)?$/.test(value)) === 'memory') return undefined;
    const provider = providerIn(env);
    if (provider) {
      const username = credential(`${provider}_USERNAME`, `${provider}_PASSWORD`);
      const password = credential(`${provider}_PASSWORD`, `${provider}_USERNAME`);
      return addresses(`${provider}_SERVERS`).map((address) => ({ ...address, username, password }));
    }
    if (onHeroku) {
      complaints.push(
        'MEMCACHIER_SERVERS is not set; the dynos on Heroku need a Memcached to share. Add one with ' +
          '"heroku addons:create memcachier:dev", or set COUNTERS=memory to see the bug that it fixes',
      );
    }
    return undefined;
  }

  /** A username or a password. No complaint shows it. */
  function credential(name: string, other: string): string | undefined {
    const value = env[name];
    if (!value && env[other]) complaints.push(`${name} is not set, but ${other} is; a login needs both`);
    // A file with Windows line ends leaves a carriage return at the end of each value.
    if (value && /\p{Cc}/u.test(value)) complaints.push(`${name} contains a control character; it must have none`);
    return value;
  }

  function addresses(name: string): Pick<MemcachedServer, 'host' | 'port'>[] {
    const list = env[name] || '';
    const parsed = list.split(',').map((address) => {
      const [, ipv6, nameOrIpv4, port = '11211'] = ADDRESS.exec(address) ?? [];
      return { host: ipv6 ?? nameOrIpv4 ?? '', port: Number(port) };
    });
    if (parsed.every(({ host, port }) => host && port > 0 && port <= 65_535)) return parsed;
    let fault = `is ${JSON.stringify(list)}`;
    if (list === '') fault = 'is not set, but its login is';
    // This does not show the list: before an @ there is usually a password.
    if (list.includes('@')) fault = 'contains an @';
    complaints.push(`${name} ${fault}; it must be host or host:port, several separated by commas`);
    return parsed;
  }
}
