import dns from 'node:dns';
import { connect, isIP, type Socket } from 'node:net';

/** What a client needs from outside: sockets, names, a clock, chance. A test hands in a simulated one. */
export interface Runtime {
  /** Opens a socket to the server. `pick` chooses among the addresses of its name; a destroyed socket no longer calls it. */
  connect(pick: (addresses: readonly string[]) => string): Pick<Socket, 'on' | 'write' | 'destroy'>;
  /** The time in milliseconds, which never goes back. */
  now(): number;
  /** A random number, from 0 up to 1. */
  random(): number;
  /** Calls back at the end of this turn of the event loop. */
  endOfTurn(action: () => void): void;
  /** Calls back after some milliseconds, once the sockets have been read: a response that has arrived must not count as late. */
  after(milliseconds: number, action: () => void): void;
}

/** The real one: sockets to one server, DNS, the clock and chance of Node.js. */
export function realRuntime(host: string, port: number): Runtime {
  let pending: Promise<dns.LookupAddress[]> | undefined;
  // A look-up cannot be cancelled, so attempts share the one that is under way.
  const lookUp = (): Promise<dns.LookupAddress[]> =>
    (pending ??= dns.promises.lookup(host, { all: true }).finally(() => (pending = undefined)));
  return {
    connect: (pick) => {
      const socket = connect({
        host,
        port,
        // If true, Node.js gives each address but the last only 250 ms to connect: too little at a distance.
        autoSelectFamily: false,
        lookup: (_host, _options, callback) =>
          void lookUp().then(
            (found) => {
              // The client may have given up during the look-up.
              if (socket.destroyed) return;
              const address = pick(found.map((each) => each.address));
              callback(null, address, isIP(address));
            },
            (error: unknown) => callback(error as NodeJS.ErrnoException, ''),
          ),
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: 30_000,
      });
      return socket;
    },
    now: () => performance.now(),
    random: Math.random,
    endOfTurn: setImmediate,
    after: (milliseconds, action) => void setTimeout(() => setImmediate(action), milliseconds),
  };
}
