import type { Socket } from 'node:net';
import memjs from 'memjs';
import { CountersUnavailable, type Log } from './counters.js';

/** A Memcached server, and its SASL PLAIN login if it has one. */
export interface Server {
  readonly host: string;
  readonly port: number;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

interface Command {
  readonly template: Template;
  readonly key: string;
  readonly deadline: number;
  readonly resolve: (count: number | undefined) => void;
  readonly reject: (error: Error) => void;
}

// All in milliseconds.
/** What a step of connecting and logging in may take: at first, this process is still busy starting. */
const PATIENCE = { first: 1000, later: 400 };
/** From the start of a failed attempt to connect to the next, give or take half at random. */
const PAUSE = 200;
/** How often deadlines are looked at: a timer for each would cost half as much as the whole greeting. */
const TICK = 25;

/** @see https://github.com/memcached/memcached/blob/master/doc/protocol-binary.txt */
export const Opcode = { delete: 0x04, increment: 0x05, noop: 0x0a, touch: 0x1c };
const Status = { ok: 0x00, notFound: 0x01 };
/** The length of a header, and where in it things are; LENGTH is that of what follows it. */
const HEADER = 24;
const [OPCODE_AT, STATUS_AT, LENGTH_AT, OPAQUE_AT] = [1, 6, 8, 12];
const KEY_LENGTH = 32;
const LOGIN_REFUSED = 'Memcached server authentication failed!'; // in memjs's words

/** The bytes of requests about one key, and where in them are its place and that of their number. */
type Template = ReturnType<typeof template>;
export function template(...requests: [opcode: number, extras: Buffer][]) {
  const room = Buffer.alloc(KEY_LENGTH);
  const encoded = requests.map(([opcode, extras]) => memjs.Utils.makeRequestBuffer(opcode, room, extras, '', 0));
  let end = 0;
  const places = encoded.map(({ length }) => ({ opaqueAt: end + OPAQUE_AT, keyAt: (end += length) - KEY_LENGTH }));
  return { bytes: Buffer.concat(encoded), places };
}

/**
 * A connection to one Memcached server that sends no command twice and leaves none unanswered. When it is lost, it is made
 * anew; once that has failed, commands fail at once, while attempts go on in the background.
 */
export class Connection {
  readonly name: string;
  /** Why commands fail at once, while they do. */
  failure: CountersUnavailable | undefined;
  /** Since when the server fails, in milliseconds of `performance.now()`, while it does. */
  failingSince: number | undefined;
  /** Commands that are not yet written, and those whose reply is awaited, up to the one with the last number. */
  #waiting: Command[] = [];
  // No Map: each time it grows or shrinks, V8 links its dead table to the new one, and commands outlive a collection.
  readonly #inFlight: Command[] = [];
  #opaque = 0;
  #unread: Buffer = Buffer.alloc(0);
  #socket: Socket | undefined;
  #ready = false;
  #busy = false;
  #attemptedAt = 0;
  #retry: NodeJS.Timeout | undefined;
  #tick: NodeJS.Timeout | undefined;
  #log: Log | undefined;
  readonly #refusals = new Set<string>();

  constructor(private readonly server: Server) {
    this.name = `Memcached at ${server.host}:${server.port}`;
  }

  /** Begins to connect, and to look after its commands. */
  open(log: Log): void {
    this.#log = log;
    this.#tick = setInterval(() => setImmediate(() => this.#look()), TICK).unref();
    this.#connect();
  }

  close(): void {
    this.#log = undefined;
    this.#ready = false; // so that it is not made anew
    this.#lose('this process is stopping');
    clearTimeout(this.#retry);
    clearInterval(this.#tick);
  }

  /** Sends a command about a key. Gives the count of an INCREMENT, or undefined if there is no such key. */
  ask(template: Template, key: string, deadline: number): Promise<number | undefined> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ template, key, deadline, resolve, reject });
      if (!this.#socket) this.#connect();
      // Commands that come while the server is busy with a packet leave together in the next one, after a tick at most.
      else if (!this.#busy) this.#flush();
    });
  }

  #flush(): void {
    if (!this.#ready || this.#waiting.length === 0) return;
    const bytes = Buffer.concat(this.#waiting.map(({ template }) => template.bytes));
    let at = 0;
    for (const command of this.#waiting.splice(0)) {
      this.#opaque = (this.#opaque + 1) >>> 0;
      this.#inFlight.push(command);
      for (const { opaqueAt, keyAt } of command.template.places) {
        bytes.writeUInt32BE(this.#opaque, at + opaqueAt);
        bytes.write(command.key, at + keyAt, 'latin1');
      }
      at += command.template.bytes.length;
    }
    this.#busy = true;
    this.#socket?.write(bytes);
  }

  #next(): void {
    this.#busy = false;
    this.#flush();
  }

  /** Reads replies, in whatever pieces they come. */
  #read(piece: Buffer): void {
    const bytes = this.#unread.length > 0 ? Buffer.concat([this.#unread, piece]) : piece;
    let at = 0;
    while (bytes.length >= at + HEADER) {
      const end = at + HEADER + bytes.readUInt32BE(at + LENGTH_AT);
      if (bytes.length < end) break;
      this.#settle(bytes, at, end);
      at = end;
    }
    this.#unread = bytes.subarray(at);
  }

  #settle(bytes: Buffer, at: number, end: number): void {
    // Replies come in the order of the commands; that to TOUCH after its INCREMENT's, under the same number, for nobody.
    const oldest = (this.#opaque - this.#inFlight.length + 1) >>> 0;
    const command = bytes.readUInt32BE(at + OPAQUE_AT) === oldest ? this.#inFlight.shift() : undefined;
    // A turn later than at once: the answers to these replies bring the next requests, for the same packet.
    if (command && this.#inFlight.length === 0) setImmediate(() => setImmediate(() => this.#next()));
    const status = bytes.readUInt16BE(at + STATUS_AT);
    const value = at + HEADER;
    if (status === Status.notFound) return command?.resolve(undefined);
    if (status === Status.ok) return command?.resolve(end - value === 8 ? Number(bytes.readBigUInt64BE(value)) : 0);
    const what = bytes[at + OPCODE_AT] === Opcode.touch ? 'TOUCH' : 'a command';
    const error = new CountersUnavailable(`${this.name} refuses ${what}: ${bytes.toString('latin1', value, end)}`);
    if (!this.#refusals.has(error.message)) this.#log?.warn(error.message);
    this.#refusals.add(error.message);
    command?.reject(error);
  }

  #connect(): void {
    // memjs's server lives as long as one TCP connection: what goes wrong with one leaves nothing to confuse the next.
    const { host, port, username, password } = this.server;
    const server = new memjs.Server(host, port, undefined, undefined, { conntimeout: 0, keepAlive: true });
    // The constructor takes what is missing from the environment, which only config.ts reads.
    Object.assign(server, { username, password, respond: () => this.#begin(server) });
    const patience = this.#attemptedAt === 0 ? PATIENCE.first : PATIENCE.later;
    this.#attemptedAt = performance.now();
    server.sock(false, (socket) => {
      // Connected and, if there is a login, logged in. Only an answer shows that the server is not stalled.
      socket.setTimeout(patience);
      socket.write(memjs.Utils.makeRequestBuffer(Opcode.noop, '', '', '', 0));
    });
    // Asked a second time, memjs gives the socket at once.
    server.sock(true, (socket) => {
      const lose = (reason: unknown): unknown => this.#socket === socket && this.#lose(reason);
      this.#socket = socket.setNoDelay().setTimeout(patience);
      socket.on('timeout', () => lose('it is silent')).on('close', () => lose('it closed the connection'));
      server.onError(0, lose);
    });
  }

  #begin(server: memjs.Server): void {
    this.#unread = Buffer.alloc(0);
    // memjs's own reader makes ten objects for each reply.
    Object.assign(server, { responseHandler: (bytes: Buffer) => this.#read(bytes) });
    this.#socket?.setTimeout(0);
    if (this.failingSince !== undefined) this.#log?.info(`${this.name} answers again`);
    this.failure = this.failingSince = undefined;
    this.#refusals.clear();
    this.#ready = true;
    this.#busy = false;
    this.#look();
  }

  #lose(reason: unknown): void {
    const words = (reason instanceof AggregateError ? reason.errors : [reason]).join(', ');
    const error = new CountersUnavailable(`${this.name} does not answer: ${words}`);
    error.warmingUp = reason === LOGIN_REFUSED;
    const failed = this.#inFlight.splice(0);
    this.#socket?.destroy();
    this.#socket = undefined;
    const wasReady = this.#ready;
    this.#ready = false;
    if (!wasReady) {
      failed.push(...this.#waiting.splice(0));
      this.failure = error;
      const pause = PAUSE * (0.5 + Math.random()) - (performance.now() - this.#attemptedAt);
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => this.#connect(), Math.max(0, pause));
    }
    // That a server closes an idle connection is no failure.
    if (!wasReady || failed.length > 0) {
      if (this.failingSince === undefined) this.#log?.warn(error.message);
      this.failingSince ??= performance.now();
    }
    for (const { reject } of failed) reject(error);
    if (wasReady && failed.length + this.#waiting.length > 0) this.#connect();
  }

  #look(): void {
    const isLate = ({ deadline }: Command): boolean => deadline <= performance.now();
    if (this.#inFlight.some(isLate)) this.#lose('no answer in time');
    const late = this.#waiting.filter(isLate);
    this.#waiting = this.#waiting.filter((command) => !late.includes(command));
    for (const { reject } of late) reject(new CountersUnavailable(`${this.name} was not connected to in time`));
    this.#flush();
  }
}
