import { once } from 'node:events';
import { createConnection, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/**
 * What befalls the connections through the proxy, also those that are already open:
 * - `pass`: nothing
 * - `swallow`: what the client sends is never answered, and never reaches the server
 * - `stuck`: like `swallow`, but what is not about a key is answered, as by a front end whose servers are stuck
 * - `mute`: what the client sends reaches the server, but no answer comes back
 * - `crumble`: answers come in pieces of 5 bytes, each on its own
 * - `refuse`: connections are refused
 * - `reset`: connections are reset as soon as they are made
 * - `cut`: a connection's next answer is cut in the middle, and the connection lost
 * - `finish`: a connection is politely closed as soon as it sends something more
 * - `linger`: like `finish`, but the server still gets what was sent
 * - `no touch`: a connection is politely closed at TOUCH, once what came before it has been answered
 */
export type Fault =
  'pass' | 'swallow' | 'stuck' | 'mute' | 'crumble' | 'refuse' | 'reset' | 'cut' | 'finish' | 'linger' | 'no touch';

/** A TCP proxy that stands before a Memcached server and makes faults. */
export interface Proxy {
  /** For `MEMCACHE_SERVERS`. */
  readonly address: string;
  readonly port: number;
  /** How many connections it has accepted so far, or refused by a reset. */
  readonly accepted: number;
  /** How many connections are open. */
  readonly open: number;
  /** How long bytes take to the server, and back, in milliseconds. */
  readonly delay: { up: number; down: number };
  /** Gives what the client gets instead of a response. */
  tamper: ((response: Buffer) => Buffer[]) | undefined;
  set(fault: Fault): Promise<void>;
  /** Politely closes all that are open, as servers do with idle connections. */
  closeAll(): void;
  /** Breaks all that are open. */
  breakAll(): void;
}

const CRUMB = 5;
const TOUCH = 0x1c;

/** Starts a proxy to a port of the loopback address, until the end of the test. */
export async function startProxy(t: { teardown(action: () => unknown): void }, upstream: number): Promise<Proxy> {
  const clients = new Set<Socket>();
  const delay = { up: 0, down: 0 };
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
    const memcached = createConnection(upstream, '127.0.0.1').setNoDelay();
    memcached.on('error', () => client.destroy());
    let outstanding = 0;
    let isLast = false;
    const [up, down] = [lane((bytes) => memcached.write(bytes)), lane((bytes) => client.write(bytes))];
    client.on('close', () => {
      clients.delete(client);
      memcached.destroy();
    });
    client.on('data', (bytes) => {
      if (fault === 'swallow') return;
      if (fault === 'finish' || fault === 'linger') client.end();
      if (fault === 'stuck') for (const request of split(bytes)) if (!isAboutKey(request)) up(request, delay.up);
      if (fault === 'no touch') {
        for (const request of split(bytes)) {
          isLast ||= request[1] === TOUCH;
          if (!isLast) up(request, delay.up);
          outstanding += isLast ? 0 : 1;
        }
      } else if (fault !== 'stuck' && fault !== 'finish') up(bytes, delay.up);
    });
    memcached.on('close', () => client.destroy());
    memcached.on('data', (bytes) => {
      if (fault === 'mute' || fault === 'linger') return;
      if (fault === 'cut') client.end(bytes.subarray(0, bytes.length / 2));
      else for (const piece of piecesOf(bytes)) down(piece, delay.down);
      if (fault !== 'no touch') return;
      outstanding -= split(bytes).length;
      if (isLast && outstanding === 0) client.end();
    });
  }

  function piecesOf(bytes: Buffer): Buffer[] {
    if (proxy.tamper) return split(bytes).flatMap(proxy.tamper);
    return fault === 'crumble' ? split(bytes, CRUMB) : [bytes];
  }

  function breakAll(): void {
    for (const client of clients) client.destroy();
  }

  t.teardown(() => {
    breakAll();
    server.close();
  });
  const proxy: Proxy = {
    address: `127.0.0.1:${port}`,
    port,
    delay,
    tamper: undefined,
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
      if (fault === 'refuse' || fault === 'reset') breakAll();
    },
    closeAll() {
      for (const client of clients) client.end();
    },
    breakAll,
  };
  return proxy;
}

/** One direction of a connection: a queue with one timer, so that nothing overtakes. */
function lane(pass: (bytes: Buffer) => void): (bytes: Buffer, delay: number) => void {
  const queue: { due: number; bytes: Buffer }[] = [];

  function passDue(): void {
    for (let now = performance.now(); queue[0] && queue[0].due <= now;)
      pass((queue.shift() as (typeof queue)[0]).bytes);
    if (queue[0]) setTimeout(passDue, Math.max(0, queue[0].due - performance.now()));
  }

  return (bytes, delay) => {
    queue.push({ due: performance.now() + delay, bytes });
    if (queue.length === 1) passDue();
  };
}

function isAboutKey(request: Buffer): boolean {
  const [NOOP, VERSION, LIST_MECHANISMS, AUTHENTICATE] = [0x0a, 0x0b, 0x20, 0x21];
  return ![NOOP, VERSION, LIST_MECHANISMS, AUTHENTICATE].includes(request[1] ?? 0);
}

/** Whole requests or responses, or pieces of so many bytes. */
function split(bytes: Buffer, length?: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + (length ?? 24 + bytes.readUInt32BE(at + 8));
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  return pieces;
}
