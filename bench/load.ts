import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';

// An answer has to cost little here: on two cores this process must not be what limits the web process.

/** What all connections read into, one after the other. */
const bytes = Buffer.alloc(65_536);

/** One connection, from `open` to `close`, over which one request at a time is sent. */
export abstract class Connection {
  readonly #port: number;
  #socket: Socket | undefined;
  #settle: { resolve(): void; reject(error: Error): void } | undefined;
  #pieces: string[] = [];
  #received = 0;
  #length: number | undefined;

  constructor(port: number) {
    this.#port = port;
  }

  protected abstract readonly request: string;
  /** The length of a whole answer, or undefined as long as what has come of it does not tell. */
  protected abstract lengthOf(answer: string): number | undefined;

  /** The first piece of the last answer. */
  protected get start(): string {
    return this.#pieces[0] ?? '';
  }

  /** The last answer, or as much of it as has come. */
  get answer(): string {
    return this.#pieces.join('');
  }

  async open(): Promise<void> {
    const onread = { buffer: bytes, callback: (length: number) => this.#read(bytes.toString('latin1', 0, length)) };
    const socket = createConnection({ port: this.#port, host: '127.0.0.1', noDelay: true, onread });
    socket.on('error', () => undefined);
    socket.on('close', () => this.#settle?.reject(new Error(`port ${this.#port} closed a connection`)));
    await once(socket, 'connect');
    this.#socket = socket;
  }

  close(): void {
    this.#settle = undefined;
    this.#socket?.destroy();
  }

  /** Fails if the connection is lost. */
  ask(): Promise<void> {
    this.#pieces = [];
    this.#received = 0;
    this.#length = undefined;
    this.#socket?.write(this.request, 'latin1');
    return new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
  }

  #read(piece: string): boolean {
    this.#pieces.push(piece);
    this.#received += piece.length;
    this.#length ??= this.lengthOf(this.answer);
    if (this.#length !== undefined && this.#received >= this.#length) this.#settle?.resolve();
    return true;
  }
}

/** A memcached that is asked for nothing. */
export class Ping extends Connection {
  protected readonly request = 'mn\r\n';

  protected lengthOf(): number {
    return 'MN\r\n'.length;
  }
}

/** A visitor with a browser's cookie. */
export class Visitor extends Connection {
  readonly #accept: string;
  cookie: string;
  asked = 0;
  failed = 0;

  constructor(port: number, answers: 'text' | 'page' = 'text', cookie = '') {
    super(port);
    this.#accept = answers === 'page' ? 'Accept: text/html\r\n' : '';
    this.cookie = cookie;
  }

  protected get request(): string {
    return `GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n${this.#accept}${this.cookie && `Cookie: ${this.cookie}\r\n`}\r\n`;
  }

  protected lengthOf(answer: string): number | undefined {
    const head = answer.indexOf('\r\n\r\n');
    if (head < 0) return undefined;
    const length = /\r\ncontent-length: (\d+)/i.exec(answer)?.[1];
    if (length !== undefined) return head + 4 + Number(length);
    return answer.endsWith('\r\n0\r\n\r\n') ? answer.length : undefined;
  }

  override async ask(): Promise<void> {
    this.asked++;
    await super.ask();
    if (!this.start.startsWith('HTTP/1.1 200 ')) this.failed++;
    if (!this.cookie) this.cookie = /^set-cookie: ([^;\r]+)/im.exec(this.answer)?.[1] ?? '';
  }

  /** The number in the last answer. */
  get count(): number {
    return Number(/Hello #(\d+)/.exec(this.answer)?.[1]);
  }

  get body(): string {
    return Buffer.from(this.answer.slice(this.answer.indexOf('\r\n\r\n') + 4), 'latin1').toString();
  }

  /** Their names are in lower case. */
  get headers(): [name: string, value: string][] {
    const [, ...lines] = this.answer.slice(0, this.answer.indexOf('\r\n\r\n')).split('\r\n');
    return lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]);
  }
}

/** Opens all connections, does something, and closes them. */
export async function connected<Result>(all: readonly Connection[], act: () => Promise<Result>): Promise<Result> {
  await Promise.all(all.map((connection) => connection.open()));
  const result = await act();
  for (const connection of all) connection.close();
  return result;
}

/** Visitors who have been greeted once each. */
export async function newVisitors(number: number, port: number, answers?: 'text' | 'page'): Promise<Visitor[]> {
  const visitors = Array.from({ length: number }, () => new Visitor(port, answers));
  await askOnce(visitors);
  return visitors;
}

export async function askOnce(all: readonly Connection[]): Promise<void> {
  await connected(all, () => Promise.all(all.map((connection) => connection.ask())));
}

/** Asks so many times in total, each as soon as it is answered, but no longer than some seconds. Gives latencies in ms. */
export async function closedLoop(all: readonly Connection[], total: number, seconds = Infinity): Promise<number[]> {
  const latencies: number[] = [];
  let left = total;
  await connected(all, () => {
    const end = performance.now() + seconds * 1000;
    const loop = async (connection: Connection): Promise<void> => {
      while (left-- > 0 && performance.now() < end) {
        const start = performance.now();
        await connection.ask();
        latencies.push(performance.now() - start);
      }
    };
    return Promise.all(all.map(loop));
  });
  return latencies;
}

/**
 * Asks at random moments, so many times a second on average, however long the answers take. Gives the latencies in ms
 * since these moments. It never sleeps, as timers would be late by up to a millisecond.
 */
export async function openLoop(all: readonly Connection[], rate: number, seconds: number): Promise<number[]> {
  const [idle, waiting, latencies] = [[...all], [] as number[], [] as number[]];
  // Exponential intervals make a Poisson process.
  const interval = (): number => (-Math.log(1 - Math.random()) / rate) * 1000;
  const end = performance.now() + seconds * 1000;
  let next = performance.now() + interval();
  while (next < end || waiting.length > 0 || idle.length < all.length) {
    for (; next < end && next <= performance.now(); next += interval()) waiting.push(next);
    while (waiting.length > 0 && idle.length > 0) {
      const [due = 0, connection] = [waiting.shift(), idle.shift() as Connection];
      void connection.ask().then(() => {
        latencies.push(performance.now() - due);
        idle.push(connection);
      });
    }
    await new Promise(setImmediate);
  }
  return latencies;
}
