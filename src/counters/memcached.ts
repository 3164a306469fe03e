import memjs from 'memjs';
import { Connection, type MemcachedServer } from './connection.ts';
import { checkTtl, type Counters, type Log } from './counters.ts';
import { create, increment, remove, type Question } from './protocol.ts';

/** For how long a server fails before the next one serves its sessions, in milliseconds. */
const FAILOVER = 5000;

/** Counts in Memcached, where one atomic command does the counting for all dynos. Each key belongs to one server. */
export class MemcachedCounters implements Counters {
  readonly place: string;
  readonly #servers: readonly Connection[];
  readonly #create: Question;
  readonly #increment: Question;
  readonly #remove = remove();

  /**
   * @param ttl how long a session lives after its last greeting, in seconds, 1 to 2592000
   * @throws RangeError for another time to live, for no server, or for a port that is none
   */
  constructor(servers: readonly MemcachedServer[], ttl: number) {
    checkTtl(ttl);
    if (servers.length === 0) throw new RangeError('There has to be at least one Memcached server');
    for (const { port } of servers) {
      if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RangeError(`${port} is not a port`);
    }
    this.#servers = servers.map((server) => new Connection(server));
    this.place = this.#servers.map(({ name }) => name).join(', ');
    this.#create = create(ttl);
    this.#increment = increment(ttl);
  }

  open(log: Log): void {
    for (const server of this.#servers) server.open(log);
  }

  /** Asks the server that a drawn key belongs to. If that fails, or takes half of the time, another one is asked as well. */
  async start<Drawn extends { readonly key: string }>(draw: () => Drawn, deadline: number): Promise<Drawn> {
    const untried = new Set(this.#servers);
    const tryOne = async (): Promise<Drawn> => {
      let drawn = draw();
      while (!untried.has(this.#home(drawn.key))) drawn = draw();
      const home = this.#home(drawn.key);
      untried.delete(home);
      const answer = home.ask(this.#create, drawn.key, deadline).then(() => drawn);
      if (untried.size === 0) return answer;
      return Promise.any([answer, rejectedOrLate(answer, deadline).then(tryOne)]).catch(() => answer);
    };
    return tryOne();
  }

  increment(key: string, deadline: number): Promise<number | undefined> {
    return this.#serving(key).ask(this.#increment, key, deadline);
  }

  /** Asks the server that the key belongs to and no other, because the count may live there. */
  async end(key: string, deadline: number): Promise<void> {
    await this.#home(key).ask(this.#remove, key, deadline);
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }

  #home(key: string): Connection {
    const { length } = this.#servers;
    return this.#servers[length > 1 ? memjs.Utils.hashCode(key) % length : 0] as Connection;
  }

  /** The key's own server, or while that fails for long the next: where they share their data, the count goes on. */
  #serving(key: string): Connection {
    const home = this.#home(key);
    if (home.failingFor < FAILOVER) return home;
    const at = this.#servers.indexOf(home);
    const next = [...this.#servers.slice(at), ...this.#servers.slice(0, at)];
    return next.find(({ failingFor }) => failingFor < FAILOVER) ?? home;
  }
}

/** Resolves when an answer fails, or when half of the time for it has passed; not if it comes before. */
function rejectedOrLate(answer: Promise<unknown>, deadline: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, (deadline - performance.now()) / 2);
    answer.then(
      () => clearTimeout(timer),
      () => {
        clearTimeout(timer);
        resolve();
      },
    );
  });
}
