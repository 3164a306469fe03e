import { once } from 'node:events';
import { createConnection, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/**
 * What befalls the connections through the proxy, also those that are already open:
 * - `pass`: nothing
 * - `swallow`: what the client sends is never answered, and never reaches the server
 * - `mute`: what the client sends reaches the server, but no answer comes back
 * - `delay`: answers come 300 ms late
 * - `crumble`: answers come in pieces of 5 bytes, each on its own
 * - `refuse`: connections are refused
 * - `reset`: connections are reset as soon as they are made
 * - `cut`: a connection's next answer is cut in the middle, and the connection lost
 * - `finish`: a connection is politely closed as soon as it sends something more
 * - `linger`: like `finish`, but the server still gets what was sent
 * - `touchless`: the server says that it does not know TOUCH
 */
export type Fault =
  'pass' | 'swallow' | 'mute' | 'delay' | 'crumble' | 'refuse' | 'reset' | 'cut' | 'finish' | 'linger' | 'touchless';

/** A TCP proxy that stands before a Memcached server and makes faults. */
export interface Proxy {
  /** For `MEMCACHE_SERVERS`. */
  readonly address: string;
  /** How many connections it has accepted so far, or refused by a reset. */
  readonly accepted: number;
  /** How many connections are open. */
  readonly open: number;
  set(fault: Fault): Promise<void>;
  /** Politely closes all that are open, as servers do with idle connections. */
  closeAll(): void;
}

const LATE = 300;
const CRUMB = 5;

/** Starts a proxy to a port of the loopback address, until the end of the test. */
export async function startProxy(t: { teardown(action: () => unknown): void }, upstream: number): Promise<Proxy> {
  const clients = new Set<Socket>();
  let fault: Fault = 'pass';
  let accepted = 0;
  let server = await listen(0);
  const { port } = server.address() as AddressInfo;

  async function listen(on: number): Promise<Server> {
    const listening = createServer(accept).listen(on, '127.0.0.1');
    await once(listening, 'listening');
    return listening;
  }

  function accept(client: Socket): void {
    accepted += 1;
    client.setNoDelay().on('error', () => undefined);
    if (fault === 'reset') {
      client.resetAndDestroy();
      return;
    }
    clients.add(client);
    const coming: Buffer[] = [];
    function send(bytes: Buffer, late: number): void {
      coming.push(bytes);
      // Whichever timer comes first sends what came first, so that nothing overtakes.
      const write = (): unknown => coming.length > 0 && client.write(coming.shift() ?? '');
      if (late === 0 && coming.length === 1) write();
      else setTimeout(write, late);
    }
    const memcached = createConnection(upstream, '127.0.0.1').on('error', () => client.destroy());
    client.on('close', () => {
      clients.delete(client);
      memcached.destroy();
    });
    client.on('data', (bytes) => {
      if (fault === 'swallow') return;
      if (fault === 'finish' || fault === 'linger') client.end();
      if (fault !== 'finish') memcached.write(bytes);
    });
    memcached.on('close', () => client.destroy());
    memcached.on('data', (bytes) => {
      if (fault === 'mute' || fault === 'linger') return;
      if (fault === 'cut') client.end(Buffer.concat([...coming.splice(0), bytes.subarray(0, bytes.length / 2)]));
      else if (fault !== 'crumble')
        send(fault === 'touchless' ? refusingTouch(bytes) : bytes, fault === 'delay' ? LATE : 0);
      else for (let at = 0; at < bytes.length; at += CRUMB) send(bytes.subarray(at, at + CRUMB), 1 + at / CRUMB);
    });
  }

  function drop(): void {
    for (const client of clients) client.destroy();
  }

  t.teardown(() => {
    drop();
    server.close();
  });
  return {
    address: `127.0.0.1:${port}`,
    get accepted() {
      return accepted;
    },
    get open() {
      return clients.size;
    },
    async set(next) {
      if (fault === 'refuse' && next !== 'refuse') server = await listen(port);
      fault = next;
      if (fault === 'refuse') server.close();
      if (fault === 'refuse' || fault === 'reset') drop();
    },
    closeAll() {
      for (const client of clients) client.end();
    },
  };
}

/** A packet of whole replies, with the status of an unknown command for each TOUCH. */
function refusingTouch(packet: Buffer): Buffer {
  for (let at = 0; at < packet.length; at += 24 + packet.readUInt32BE(at + 8)) {
    if (packet[at + 1] === 0x1c) packet.writeUInt16BE(0x81, at + 6);
  }
  return packet;
}
