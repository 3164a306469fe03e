import memjs from 'memjs';
import { Client } from '../memcached/client.ts';
import { create, increment, REMOVE, type Operation } from '../memcached/protocol.ts';
import { MemcachedError, type MemcachedServer } from '../memcached/server.ts';
import { checkTtl, CountersUnavailable, type Counters, type Log } from './counters.ts';

/** How long a server must have been failing before the next one serves its sessions. */
const FAILOVER_MS = 5000;
const KEY_SHAPE = /^[!-~]{32}$/;

/** Counts in Memcached, where one atomic command does the counting for all dynos. Each key belongs to one server. */
export class MemcachedCounters implements Counters {
  readonly place: string;
  readonly #clients: readonly Client[];
  readonly #create: Operation;
  readonly #increment: Operation;
  #users = 0;

  /**
   * @param ttl how long a session lives after its last greeting, in seconds, 1 to 2592000
   * @throws RangeError for another time to live, no server, a server without a host or with an invalid port, or half a login
   */
  constructor(servers: readonly MemcachedServer[], ttl: number) {
    checkTtl(ttl);
    if (servers.length === 0) throw new RangeError('There must be at least one Memcached server');
    for (const { host, port, username, password } of servers) {
      if (!host) throw new RangeError('A Memcached server needs a host');
      if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RangeError(`The port of ${host} is ${port}`);
      if (!username !== !password) throw new RangeError('A login needs both a username and a password');
    }
    this.#clients = servers.map((server) => new Client(server));
    this.place = this.#clients.map(({ name }) => name).join(', ');
    this.#create = create(ttl);
    this.#increment = increment(ttl);
  }

  open(log: Log): void {
    this.#users += 1;
    for (const client of this.#clients) client.open(log);
  }

  close(): void {
    this.#users = Math.max(0, this.#users - 1);
    if (this.#users > 0) return;
    for (const client of this.#clients) client.close();
  }

  /** Draws keys until one belongs to a healthy server. If that server fails before the deadline, tries another. */
  async start(drawKey: () => string, deadline: number): Promise<void> {
    let untried = this.#clients;
    for (;;) {
      const healthy = untried.filter((client) => client.failingFor() === 0);
      const { key, home } = this.#draw(drawKey, healthy.length > 0 ? healthy : untried);
      untried = untried.filter((client) => client !== home);
      try {
        await this.#call(home, this.#create, key, deadline);
        return;
      } catch (error) {
        const isLast = untried.length === 0 || performance.now() >= deadline;
        if (isLast || !(error instanceof CountersUnavailable)) throw error;
      }
    }
  }

  increment(key: string, deadline: number): Promise<number | undefined> {
    return this.#call(this.#clientFor(key), this.#increment, key, deadline);
  }

  /** Asks the server that the key belongs to, and fails while that fails: the count may live there. */
  async end(key: string, deadline: number): Promise<void> {
    await this.#call(this.#home(key), REMOVE, key, deadline);
  }

  async #call(client: Client, operation: Operation, key: string, deadline: number): Promise<number | undefined> {
    if (!KEY_SHAPE.test(key)) throw new RangeError('A key is 32 visible ASCII characters');
    try {
      return await client.call(operation, key, deadline);
    } catch (error) {
      if (!(error instanceof MemcachedError)) throw error;
      throw new CountersUnavailable(`ERR_COUNTERS_${error.code}`, error);
    }
  }

  /** Draws keys until one belongs to a candidate. Which server a key belongs to follows from its hash. */
  #draw(drawKey: () => string, candidates: readonly Client[]): { key: string; home: Client } {
    for (;;) {
      const key = drawKey();
      const home = this.#home(key);
      if (candidates.includes(home)) return { key, home };
    }
  }

  #home(key: string): Client {
    return this.#clients[memjs.Utils.hashCode(key) % this.#clients.length] as Client;
  }

  /** The key's own server or, once that has failed for FAILOVER_MS, the next. If the servers share data, the count continues. */
  #clientFor(key: string): Client {
    const home = this.#home(key);
    const at = this.#clients.indexOf(home);
    const inOrder = [...this.#clients.slice(at), ...this.#clients.slice(0, at)];
    return inOrder.find((client) => client.failingFor() < FAILOVER_MS) ?? home;
  }
}
