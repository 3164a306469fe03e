import { setTimeout as sleep } from 'node:timers/promises';
import memjs from 'memjs';
import { Connection, type Address, type Credentials } from './connection.js';
import { CountersUnavailable, type Counters, type Log } from './counters.js';

/** How long a server fails until the next one serves its sessions, in milliseconds. */
const SILENCE = 5000;

/** Counts in Memcached, where one atomic command does the counting for all dynos. */
export class MemcachedCounters implements Counters {
  readonly place: string;
  readonly #servers: readonly Connection[];

  /**
   * @param addresses at least one; each session belongs to one of them, by its key
   * @param ttl how long a session lives after its last greeting, in seconds, at most 30 days
   */
  constructor(addresses: readonly Address[], credentials: Credentials, ttl: number) {
    this.#servers = addresses.map((address) => new Connection(address, credentials, ttl));
    this.place = this.#servers.map(({ name }) => name).join(', ');
  }

  open(log: Log): void {
    for (const server of this.#servers) server.open(log);
  }

  /**
   * Draws until the key belongs to a server that answers: there the session stays, whatever becomes of the others. If that
   * server fails or takes too long of the time, another one starts a session under another key.
   */
  async start(draw: () => string, deadline: number): Promise<void> {
    const answering = this.#servers.filter(({ failure }) => !failure);
    let candidates = answering.length > 0 ? answering : this.#servers;
    for (;;) {
      let key = draw();
      while (!candidates.includes(this.#home(key))) key = draw();
      const home = this.#home(key);
      const others = candidates.filter((server) => server !== home);
      const started = home.create(key, deadline);
      try {
        await (others.length > 0 ? Promise.race([started, tooLong(deadline)]) : started);
        return;
      } catch (error) {
        if (others.length === 0 || performance.now() >= deadline) throw error;
        candidates = others;
      }
    }
  }

  increment(key: string, deadline: number): Promise<number | undefined> {
    return this.#serving(key).increment(key, deadline);
  }

  async end(key: string, deadline: number): Promise<void> {
    await this.#serving(key).delete(key, deadline);
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }

  #home(key: string): Connection {
    return this.#servers[memjs.Utils.hashCode(key) % this.#servers.length] as Connection;
  }

  /** The key's own server, or the next while it is silent: where they share their data, the count goes on. */
  #serving(key: string): Connection {
    const home = this.#home(key);
    if (!isSilent(home)) return home;
    const at = this.#servers.indexOf(home);
    return [...this.#servers.slice(at), ...this.#servers.slice(0, at)].find((server) => !isSilent(server)) ?? home;
  }
}

function isSilent({ failingSince = Infinity }: Connection): boolean {
  return performance.now() - failingSince >= SILENCE;
}

/** Fails when half of the time until a deadline is over. */
async function tooLong(deadline: number): Promise<never> {
  await sleep((deadline - performance.now()) / 2, undefined, { ref: false });
  throw new CountersUnavailable('too long');
}
