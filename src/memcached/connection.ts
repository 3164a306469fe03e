// One TCP connection to a Memcached server, and the calls made on it.

import { encode, nameOf, nextOpaque, PROBE, PROBE_KEY, ResponseReader } from './protocol.ts';
import type { Operation, Request, Response } from './protocol.ts';
import type { Runtime } from './runtime.ts';
import type { ServerRecord } from './server-record.ts';
import { MemcachedError, type ErrorCode } from './server.ts';

/** How long the network may take to connect, and a server to respond, in milliseconds. */
const RESPONSE_TIMEOUT_MS = 1000;
/** The first opaque reads as the end of a line, so a server of Memcached's text protocol responds, and shows what it is. */
const FIRST_OPAQUE = 0x0d0a;

/** An operation under way for somebody. It settles once: to settle it again changes nothing. */
export class Call {
  readonly operation: Operation;
  readonly key: string;
  readonly response: Promise<Response>;
  isSettled = false;
  readonly #deadline: number;
  #resolve!: (response: Response) => void;
  #reject!: (reason: MemcachedError) => void;

  constructor(operation: Operation, key: string, deadline: number) {
    this.operation = operation;
    this.key = key;
    this.#deadline = deadline;
    this.response = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Ends it by its response, or by the reason why there is none. */
  settle(result: Response | MemcachedError): void {
    this.isSettled = true;
    if (result instanceof Error) this.#reject(result);
    else this.#resolve(result);
  }

  /** Fails if its time is up. */
  expire(now: number, message: string): void {
    if (this.#deadline <= now && !this.isSettled) this.settle(new MemcachedError('UNAVAILABLE', message));
  }
}

/** A request that has been written, and whose response has not come. */
interface Outstanding {
  readonly request: Request;
  readonly key: string;
  readonly opaque: number;
  readonly writtenAt: number;
  /** Undefined for a TOUCH, which nobody waits for. It may have expired: its response still comes, and has to be matched. */
  readonly call: Call | undefined;
}

/** What a connection asks and tells its client. After `onLost` it calls none of these. */
export interface ConnectionHandlers {
  /** Chooses among the addresses of the server's name. */
  readonly pick: (addresses: readonly string[]) => string;
  /** Called once it has connected, has logged in, and has had the response to a request about a key. */
  readonly onReady: () => void;
  readonly onLost: (reason: MemcachedError) => void;
}

/** When anything goes wrong with a connection, it is lost for good, and none of its state is reused. */
export class Connection {
  /** Undefined until the server's name has been looked up, and always if its host is an address. */
  address: string | undefined;
  readonly #runtime: Runtime;
  readonly #server: ServerRecord;
  readonly #handlers: ConnectionHandlers;
  readonly #socket: ReturnType<Runtime['connect']>;
  readonly #reader = new ResponseReader();
  /** Oldest first. */
  readonly #outstanding: Outstanding[] = [];
  #nextOpaque = FIRST_OPAQUE;
  /** Undefined once it has connected. */
  #connectingSince: number | undefined;
  #hasResponded = false;
  #isDestroyed = false;

  constructor(runtime: Runtime, server: ServerRecord, handlers: ConnectionHandlers) {
    this.#runtime = runtime;
    this.#server = server;
    this.#handlers = handlers;
    this.#connectingSince = runtime.now();
    this.#socket = runtime.connect((addresses) => (this.address = handlers.pick(addresses)));
    this.#socket.on('connect', () => void this.#shakeHands());
    this.#socket.on('data', (piece: Buffer) => this.#read(piece));
    this.#socket.on('error', ({ message }) => this.#break('UNAVAILABLE', message));
    this.#socket.on('end', () => this.#break('UNAVAILABLE', 'it closed the connection'));
  }

  get hasOutstanding(): boolean {
    return this.#outstanding.length > 0;
  }

  /** Whether the response to a call is outstanding, even if the call has expired. */
  get owesCalls(): boolean {
    return this.#outstanding.some(({ call }) => call !== undefined);
  }

  /** How long the connection, or the response to the oldest request, has been awaited, in milliseconds. */
  get silence(): number {
    const now = this.#runtime.now();
    return now - (this.#connectingSince ?? this.#outstanding[0]?.writtenAt ?? now);
  }

  get hasTimedOut(): boolean {
    return this.silence >= RESPONSE_TIMEOUT_MS;
  }

  /** Writes calls as one packet, TOUCHes last: a server that fails at TOUCH has then answered all calls. */
  write(calls: readonly Call[]): void {
    const writtenAt = this.#runtime.now();
    const requests: Outstanding[] = [];
    const add = (request: Request, key: string, call: Call | undefined): void => {
      requests.push({ request, key, opaque: this.#nextOpaque, writtenAt, call });
      this.#nextOpaque = nextOpaque(this.#nextOpaque);
    };
    for (const call of calls) add(call.operation.request, call.key, call);
    for (const { operation, key } of calls) {
      if (operation.touch && this.#server.maySendTouch) add(operation.touch, key, undefined);
    }
    this.#outstanding.push(...requests);
    this.#socket.write(encode(requests));
  }

  /** Destroys the connection if it has timed out. Otherwise fails the calls whose time is up. */
  expire(): void {
    const what = this.#connectingSince === undefined ? 'response' : 'connection';
    if (this.hasTimedOut) return this.#break('UNAVAILABLE', `no ${what} within a second`);
    const now = this.#runtime.now();
    for (const { call } of this.#outstanding) call?.expire(now, 'no response in time');
  }

  /** Closes it for good, and fails its calls. `#outstanding` is kept: the client and `#break` still ask what was owed. */
  destroy(reason: MemcachedError): void {
    if (this.#isDestroyed) return;
    this.#isDestroyed = true;
    this.#socket.destroy();
    this.#handlers.onLost(reason);
    for (const { call } of this.#outstanding) call?.settle(reason);
  }

  async #shakeHands(): Promise<void> {
    this.#connectingSince = undefined;
    try {
      const { loginOperation } = this.#server;
      if (loginOperation) this.#server.checkLogin(await this.#request(loginOperation, ''));
      // The probe is about a key, as a proxy may answer other commands without a store behind it. Even a refusal shows that there
      // is one, unless it is an auth error.
      const { outcome, words } = await this.#request(PROBE, PROBE_KEY);
      if (outcome === 'auth error') throw this.#server.noteLoginRefusal(words);
    } catch (reason) {
      return this.destroy(reason as MemcachedError);
    }
    // If the same piece went wrong behind the response, it destroyed the connection before this runs.
    if (!this.#isDestroyed) this.#handlers.onReady();
  }

  async #request(operation: Operation, key: string): Promise<Response> {
    const call = new Call(operation, key, Infinity);
    this.write([call]);
    return call.response;
  }

  /** Destroys it for a fault of the server or the network. The fault counts against TOUCH if the response to one was due. */
  #break(code: ErrorCode, message: string): void {
    this.destroy(new MemcachedError(code, message));
    const [due] = this.#outstanding;
    if (due && !due.call) this.#server.touchFailed();
  }

  #read(piece: Buffer): void {
    try {
      this.#reader.read(piece, (response) => this.#match(response));
    } catch (error) {
      const code = this.#hasResponded ? 'UNAVAILABLE' : 'NOT_MEMCACHED';
      this.#break(code, (error as Error).message);
    }
  }

  #match(response: Response): void {
    const due = this.#outstanding[0];
    // Stryker disable next-line OptionalChaining: a TypeError costs the connection as well, and nobody waits for its reason
    if (response.opcode !== due?.request.opcode || response.opaque !== due.opaque) {
      throw new Error(
        `it sent a response to ${nameOf(response.opcode)} with opaque ${response.opaque}, which was not due`,
      );
    }
    this.#outstanding.shift();
    this.#hasResponded = true;
    if (due.call) due.call.settle(response);
    else this.#server.touchAnswered(response);
  }
}
