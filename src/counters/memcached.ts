import memjs from 'memjs';
import { Connection, Opcode, template, type Server } from './connection.js';
import type { Counters, Log } from './counters.js';

/** How long a server fails until the next one serves its sessions, in milliseconds. */
const SILENCE = 5000;
/** INCREMENT with this expiry never creates a key. */
const NEVER_CREATE = 0xffffffff;

/** Counts in Memcached, where one atomic command does the counting for all dynos. Each key belongs to one server. */
export class MemcachedCounters implements Counters {
  readonly place: string;
  readonly #servers: readonly Connection[];
  readonly #create;
  readonly #increment;
  readonly #delete = template([Opcode.delete, Buffer.alloc(0)]);

  /** @param ttl how long a session lives after its last greeting, in seconds, at most 30 days */
  constructor(servers: readonly Server[], ttl: number) {
    this.#servers = servers.map((server) => new Connection(server));
    this.place = this.#servers.map(({ name }) => name).join(', ');
    this.#create = template([Opcode.increment, memjs.Utils.makeAmountInitialAndExpiration(1, 1, ttl)]);
    this.#increment = template(
      [Opcode.increment, memjs.Utils.makeAmountInitialAndExpiration(1, 0, NEVER_CREATE)],
      [Opcode.touch, memjs.Utils.makeExpiration(ttl)],
    );
  }

  open(log: Log): void {
    for (const server of this.#servers) server.open(log);
  }

  /** If the server that a key belongs to fails, another one starts the session, under a key that belongs there. */
  async start(draw: () => string, deadline: number): Promise<void> {
    const answering = this.#servers.filter(({ failure }) => !failure);
    const untried = new Set(answering.length > 0 ? answering : this.#servers);
    for (;;) {
      let key = draw();
      while (!untried.has(this.#home(key))) key = draw();
      untried.delete(this.#home(key));
      // If there is another server, it needs time as well.
      const until = untried.size > 0 ? (performance.now() + deadline) / 2 : deadline;
      try {
        await this.#home(key).ask(this.#create, key, until);
        return;
      } catch (error) {
        if (untried.size === 0 || performance.now() >= deadline) throw error;
      }
    }
  }

  increment(key: string, deadline: number): Promise<number | undefined> {
    return this.#serving(key).ask(this.#increment, key, deadline);
  }

  async end(key: string, deadline: number): Promise<void> {
    await this.#serving(key).ask(this.#delete, key, deadline);
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }

  #home(key: string): Connection {
    const { length } = this.#servers;
    return this.#servers[length > 1 ? memjs.Utils.hashCode(key) % length : 0] as Connection;
  }

  /** The key's own server, or while that is silent the next: where they share their data, the count goes on. */
  #serving(key: string): Connection {
    const home = this.#home(key);
    if (!isSilent(home)) return home;
    const at = this.#servers.indexOf(home);
    return [...this.#servers.slice(at), ...this.#servers.slice(0, at)].find((server) => !isSilent(server)) ?? home;
  }
}

function isSilent({ failingSince }: Connection): boolean {
  return failingSince !== undefined && performance.now() - failingSince >= SILENCE;
}
