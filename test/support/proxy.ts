import { createConnection, createServer, type Socket } from 'node:net';
import { listening } from './web.ts';

/** A TCP proxy before a Memcached server, which makes faults. */
export interface Proxy {
  readonly port: number;
  /** How many connections are open. */
  readonly open: number;
  /**
   * What befalls the connections, also those that are already open:
   * - `cut`: the next response is cut in the middle, and the connection lost
   * - `finish`: it is politely closed as soon as the client sends something more
   */
  fault: 'cut' | 'finish' | undefined;
  /** Politely closes all that are open, as servers do with idle connections. */
  closeAll(): void;
}

/** Starts a proxy to a port of the loopback address, until the end of the test. */
export async function startProxy(t: { teardown(action: () => unknown): void }, upstream: number): Promise<Proxy> {
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    clients.add(client.setNoDelay());
    const memcached = createConnection(upstream, '127.0.0.1').setNoDelay();
    memcached.on('error', () => client.destroy()).on('close', () => client.destroy());
    client.on('close', () => {
      clients.delete(client);
      memcached.destroy();
    });
    client.on('data', (bytes) => {
      if (proxy.fault === 'finish') client.end();
      else memcached.write(bytes);
    });
    memcached.on('data', (bytes) => {
      if (proxy.fault === 'cut') client.end(bytes.subarray(0, bytes.length / 2));
      else client.write(bytes);
    });
  });
  const proxy: Proxy = {
    port: await listening(t, server),
    fault: undefined,
    get open() {
      return clients.size;
    },
    closeAll() {
      for (const client of clients) client.end();
    },
  };
  return proxy;
}
