import type { Server } from './counters/connection.js';

/** What the environment asks for. One that exists is valid. */
export type Config = Readonly<ReturnType<typeof readConfig>>;

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
/** What the names of a Memcached's variables begin with; the first of them that is present counts. */
const PROVIDERS = ['MEMCACHIER', 'MEMCACHEDCLOUD', 'MEMCACHE'];
const SERVER = /^(?:\[([\da-f:.]+)\]|([\w.-]+))(?::(\d+))?$/i;

/**
 * Reads the environment. A variable set to the empty string counts as not set.
 *
 * @param refuse gets every complaint at once, one line for each variable
 */
export function readConfig(env: NodeJS.ProcessEnv, refuse: (complaints: string) => never) {
  const complaints: string[] = [];
  const onHeroku = Boolean(env.DYNO);
  const config = {
    port: integer('PORT', 3000, 0, 65_535, 'a port'),
    host: env.HOST || (onHeroku ? '0.0.0.0' : 'localhost'),
    onHeroku,
    dyno: text('DYNO', 'local', "a dyno's name, such as web.1", (value) => /^[\x21-\x7e]+$/.test(value)),
    /** Undefined: the counts live in this process's memory. */
    memcached: memcached(),
    /** In seconds. memcached takes more than 30 days for a date, and its clock ticks once a second. */
    sessionTtl: integer('SESSION_TTL', 86_400, 2, 2_592_000, 'a number of seconds'),
    logLevel: text('LOG_LEVEL', 'info', `one of ${LOG_LEVELS.join(', ')}`, (value) => LOG_LEVELS.includes(value)),
  };
  return complaints.length === 0 ? config : refuse(complaints.join('\n'));

  function text(name: string, fallback: string, allowed: string, isAllowed: (value: string) => boolean): string {
    const value = env[name] || fallback;
    if (!isAllowed(value)) complaints.push(`${name} is ${JSON.stringify(value)}; it has to be ${allowed}`);
    return value;
  }

  function integer(name: string, fallback: number, least: number, most: number, what: string): number {
    const isAllowed = (value: string): boolean => /^\d{1,9}$/.test(value) && +value >= least && +value <= most;
    return Number(text(name, String(fallback), `${what} from ${least} to ${most}`, isAllowed));
  }

  function memcached(): Server[] | undefined {
    if (text('COUNTERS', '', 'memory, or not set', (value) => /^(memory)?$/.test(value)) === 'memory') return undefined;
    for (const provider of PROVIDERS) {
      const [list, name, other] = [`${provider}_SERVERS`, `${provider}_USERNAME`, `${provider}_PASSWORD`] as const;
      const [username, password] = [env[name] || undefined, env[other] || undefined];
      if (!env[list] && !username && !password) continue;
      if (username && !password) complaints.push(`${other} is not set; it has to be, as ${name} is`);
      if (password && !username) complaints.push(`${name} is not set; it has to be, as ${other} is`);
      return servers(list).map((server) => ({ ...server, username, password }));
    }
    const without =
      'MEMCACHIER_SERVERS is not set; on Heroku the dynos need a Memcached to share, which this command adds: ' +
      'heroku addons:create memcachier:dev (COUNTERS=memory shows what goes wrong without)';
    if (onHeroku) complaints.push(without);
    return undefined;
  }

  function servers(name: string): Pick<Server, 'host' | 'port'>[] {
    const list = env[name] ?? '';
    const parsed = list.split(',').map((server) => {
      const [, ipv6 = '', host = ipv6, port = '11211'] = SERVER.exec(server.trim()) ?? [];
      return { host, port: +port };
    });
    if (parsed.every(({ host, port }) => host && port > 0 && port <= 65_535)) return parsed;
    // What stands before an @ is mostly a password.
    const is = list.includes('@') ? 'holds an @' : `is ${JSON.stringify(list)}`;
    complaints.push(`${name} ${is}; it has to be host or host:port, several separated by commas`);
    return [];
  }
}
