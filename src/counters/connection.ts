import type { Socket } from 'node:net';
import memjs from 'memjs';
import { CountersUnavailable, type Log } from './counters.js';

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** For SASL PLAIN; both undefined where there is no login. */
export interface Credentials {
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** How long a step of connecting and logging in may take; for a server that fails for long, perhaps slow, not dead. */
const PATIENCE = 300;
const LONG_PATIENCE = 1000;
const LONG = 10_000;
/** From the start of a failed attempt to connect to the next one, give or take half at random; all in milliseconds. */
const PAUSE = 200;
/** How often deadlines are looked at: one timer for all commands, as one for each would cost half a greeting. */
const TICK = 25;

/** @see https://github.com/memcached/memcached/blob/master/doc/protocol-binary.txt */
const Opcode = { delete: 0x04, increment: 0x05, noop: 0x0a, touch: 0x1c };
const Status = { ok: 0x00, notFound: 0x01 };
const OPAQUE_AT = 12;
const HEADER_LENGTH = 24;
const KEY_LENGTH = 32;
/** INCREMENT with this expiry never creates a key. */
const NEVER_CREATE = 0xffffffff;

interface Command {
  readonly template: Template;
  readonly key: string;
  readonly deadline: number;
  readonly resolve: (count: number | undefined) => void;
  readonly reject: (error: Error) => void;
}

/** Requests about one key in the bytes of the protocol, and where in them each has its number and the key. */
interface Template {
  readonly bytes: Buffer;
  readonly places: readonly { opaqueAt: number; keyAt: number }[];
}

/**
 * A connection to one Memcached server that sends no command twice and leaves none unanswered. When it is lost, it is made
 * anew; once that has failed, commands fail at once, while attempts go on in the background.
 */
export class Connection {
  readonly name: string;
  /** Why commands fail at once, while they do. */
  failure: CountersUnavailable | undefined;
  /** Since when the server fails, in milliseconds of `performance.now()`. */
  failingSince: number | undefined;

  readonly #address: Address;
  readonly #credentials: Credentials;
  readonly #create: Template;
  readonly #increment: Template;
  readonly #delete = template([Opcode.delete, Buffer.alloc(0)]);
  readonly #told = new Set<string>();
  #log: Log | undefined;

  /** memjs's part lives as long as one TCP connection: what went wrong with one leaves nothing to confuse the next. */
  #server: memjs.Server | undefined;
  #socket: Socket | undefined;
  #ready = false;
  #opaque = 0;
  #attemptedAt = 0;
  #retry: NodeJS.Timeout | undefined;
  #tick: NodeJS.Timeout | undefined;
  /** Commands that are not yet written, and those whose reply is awaited. */
  #waiting: Command[] = [];
  readonly #inFlight = new Map<number, Command>();

  /** @param ttl how long a key lives after its last increment, in seconds, at most 30 days */
  constructor(address: Address, credentials: Credentials, ttl: number) {
    this.name = `Memcached at ${address.host}:${address.port}`;
    this.#address = address;
    this.#credentials = credentials;
    this.#create = template([Opcode.increment, memjs.Utils.makeAmountInitialAndExpiration(1, 1, ttl)]);
    this.#increment = template(
      [Opcode.increment, memjs.Utils.makeAmountInitialAndExpiration(1, 0, NEVER_CREATE)],
      [Opcode.touch, memjs.Utils.makeExpiration(ttl)],
    );
  }

  /** Begins to connect, and to look after its commands. */
  open(log: Log): void {
    this.#log = log;
    this.#tick = setInterval(() => setImmediate(() => this.#expire()), TICK).unref();
    this.#connect();
  }

  /** Creates a key with a count of 1. */
  create(key: string, deadline: number): Promise<unknown> {
    return this.#ask(this.#create, key, deadline);
  }

  /** Adds one to the count of a key and renews its time to live; gives undefined if there is no such key. */
  increment(key: string, deadline: number): Promise<number | undefined> {
    return this.#ask(this.#increment, key, deadline);
  }

  delete(key: string, deadline: number): Promise<unknown> {
    return this.#ask(this.#delete, key, deadline);
  }

  close(): void {
    this.#log = undefined;
    this.#lose(new Error('this process is stopping'));
    clearTimeout(this.#retry);
    clearInterval(this.#tick);
  }

  #ask(template: Template, key: string, deadline: number): Promise<number | undefined> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ template, key, deadline, resolve, reject });
      if (!this.#server) this.#connect();
      // One write per turn of the event loop: many requests arrive in one, and all their commands leave in one packet.
      else if (this.#waiting.length === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    if (!this.#ready) return;
    const bytes = Buffer.concat(this.#waiting.map(({ template }) => template.bytes));
    let at = 0;
    for (const command of this.#waiting) {
      this.#opaque = (this.#opaque + 1) >>> 0;
      this.#inFlight.set(this.#opaque, command);
      for (const { opaqueAt, keyAt } of command.template.places) {
        bytes.writeUInt32BE(this.#opaque, at + opaqueAt);
        bytes.write(command.key, at + keyAt, 'latin1');
      }
      at += command.template.bytes.length;
    }
    this.#waiting = [];
    this.#socket?.write(bytes);
  }

  #settle({ header: { opcode, opaque, status }, val }: memjs.Response): void {
    if (opcode === Opcode.noop) {
      this.#begin();
      return;
    }
    const refused = status !== Status.ok && status !== Status.notFound;
    const message = refused
      ? `${this.name} refuses ${opcode === Opcode.touch ? 'TOUCH' : 'a command'}: ${val.toString()}`
      : '';
    if (refused && !this.#told.has(message)) this.#log?.warn(message);
    if (refused) this.#told.add(message);
    if (opcode === Opcode.touch) return;
    const command = this.#inFlight.get(opaque);
    this.#inFlight.delete(opaque);
    if (refused) command?.reject(new CountersUnavailable(message));
    else if (status === Status.notFound) command?.resolve(undefined);
    else command?.resolve(val.length === 8 ? Number(val.readBigUInt64BE()) : 0);
  }

  #connect(): void {
    const { host, port } = this.#address;
    const server = new memjs.Server(host, port, undefined, undefined, { conntimeout: 0, keepAlive: true });
    // What its constructor finds missing it takes from the environment, which only config.ts reads.
    Object.assign(server, this.#credentials, { respond: (response: memjs.Response) => this.#settle(response) });
    this.#server = server;
    this.#attemptedAt = performance.now();
    const patience = this.#attemptedAt - (this.failingSince ?? Infinity) > LONG ? LONG_PATIENCE : PATIENCE;
    const lose = (reason: unknown): void => {
      if (this.#server === server) this.#lose(reason);
    };
    server.onError(0, lose);
    server.sock(false, (socket) => {
      // Connected and, if there is a login, logged in. Only an answer shows that the server is not stalled.
      socket.setTimeout(patience);
      socket.write(memjs.Utils.makeRequestBuffer(Opcode.noop, '', '', '', 0));
    });
    // Asked a second time, memjs gives the socket at once.
    server.sock(true, (socket) => {
      this.#socket = socket.setNoDelay().setTimeout(patience);
      socket.on('timeout', () => lose(new Error(`no answer within ${patience} ms`)));
      socket.on('close', () => lose(new Error('it closed the connection')));
    });
  }

  #begin(): void {
    this.#socket?.setTimeout(0);
    this.#ready = true;
    this.#opaque = 0;
    if (this.failingSince !== undefined) this.#log?.info(`${this.name} answers again`);
    this.failure = undefined;
    this.failingSince = undefined;
    this.#told.clear();
    this.#expire();
    this.#flush();
  }

  #lose(reason: unknown): void {
    const wasReady = this.#ready;
    this.#socket?.destroy();
    this.#server = undefined;
    this.#ready = false;
    // memjs says so by a string, where it throws Errors for all else.
    const loginRefused = typeof reason === 'string';
    const words = reason instanceof AggregateError ? reason.errors.join(', ') : String(reason);
    const error = new CountersUnavailable(`${this.name} does not answer: ${words}`, loginRefused);
    const failed = [...this.#inFlight.values()];
    this.#inFlight.clear();
    if (!wasReady) {
      failed.push(...this.#waiting.splice(0));
      this.failure = error;
      const pause = PAUSE * (0.5 + Math.random()) - (performance.now() - this.#attemptedAt);
      this.#retry = setTimeout(() => this.#connect(), pause);
    }
    // An idle connection that the server closes is no failure: the next command makes it anew.
    if (!wasReady || failed.length > 0) {
      if (this.failingSince === undefined) this.#log?.warn(error.message);
      this.failingSince ??= performance.now();
    }
    for (const { reject } of failed) reject(error);
    if (wasReady && failed.length + this.#waiting.length > 0) this.#connect();
  }

  #expire(): void {
    const isLate = ({ deadline }: Command): boolean => deadline <= performance.now();
    if ([...this.#inFlight.values()].some(isLate)) this.#lose(new Error('no answer in time'));
    const late = this.#waiting.filter(isLate);
    this.#waiting = this.#waiting.filter((command) => !late.includes(command));
    for (const { reject } of late) reject(new CountersUnavailable(`${this.name} could not be connected to in time`));
  }
}

/** Encodes requests about one key, leaving room for it. */
function template(...requests: [opcode: number, extras: Buffer][]): Template {
  const places = [];
  let length = 0;
  for (const [, extras] of requests) {
    const keyAt = length + HEADER_LENGTH + extras.length;
    places.push({ opaqueAt: length + OPAQUE_AT, keyAt });
    length = keyAt + KEY_LENGTH;
  }
  const room = Buffer.alloc(KEY_LENGTH);
  const bytes = requests.map(([opcode, extras]) => memjs.Utils.makeRequestBuffer(opcode, room, extras, '', 0));
  return { bytes: Buffer.concat(bytes), places };
}
