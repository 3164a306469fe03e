import memjs from 'memjs';

// Memcached's binary protocol, as far as counting needs it: requests to bytes, bytes to responses. It knows no socket. A
// request and its response each begin with a header of 24 bytes:
//
//   0      1       2           4              5       6       8            12      16     24
//   magic  opcode  key length  extras length  (type)  status  body length  opaque  (cas)  extras, key, value
//
// The server answers the requests of a connection in order, and repeats the opaque of each in its response.
// See https://github.com/memcached/memcached/blob/master/doc/protocol-binary.txt
//
// memjs encodes the requests. Its client is not used: it counts twice when it retries, and misreads what follows a lost
// connection.

const HEADER_LENGTH = 24;
const OPCODE_AT = 1;
const KEY_LENGTH_AT = 2;
const EXTRAS_LENGTH_AT = 4;
const STATUS_AT = 6;
const BODY_LENGTH_AT = 8;
const OPAQUE_AT = 12;

const RESPONSE_MAGIC = 0x81;
export const OPCODES = { DELETE: 0x04, INCREMENT: 0x05, TOUCH: 0x1c, SASL_AUTH: 0x21 } as const;

const OK = 0x00;
const NOT_FOUND = 0x01;
/** The refusals that have an outcome of their own. */
const REFUSALS: Readonly<Record<number, 'auth error' | 'unknown command'>> = {
  0x20: 'auth error',
  0x81: 'unknown command',
};

/** INCREMENT with this expiry never creates a key. */
const NEVER_CREATE = 0xffffffff;
const KEY_LENGTH = 32;
const COUNT_LENGTH = 8;
/** The longest body of a response, in bytes: a refusal in words. */
const MAX_BODY_LENGTH = 1024;
/** How many characters of a server's own words are quoted. */
const MAX_QUOTE_LENGTH = 100;

/** An encoded request. `encode` fills in the opaque and, but for a login, the key: the last 32 bytes. */
export interface Request {
  readonly opcode: number;
  readonly bytes: Buffer;
}

/** What a server is asked to do with one key: a request whose response is awaited, and perhaps a TOUCH, which nobody waits for. */
export interface Operation {
  readonly request: Request;
  readonly touch?: Request;
}

export interface Response {
  readonly opcode: number;
  readonly opaque: number;
  readonly status: number;
  /** `refused`: any other status, or a value that is no count. */
  readonly outcome: 'ok' | 'not found' | 'auth error' | 'unknown command' | 'refused';
  /** What INCREMENT gives: a whole number from 1 to 2^53 - 1. 0 for every other response. */
  readonly count: number;
  /** What the server said, if the outcome is neither `ok` nor `not found`: quoted, on one line. */
  readonly words: string;
}

/** A key that holds no count. */
export const PROBE_KEY = '.'.repeat(KEY_LENGTH);

/** Adds one to a count that exists, and creates none. So with PROBE_KEY it changes nothing. */
export const PROBE: Operation = { request: incrementRequest(0, NEVER_CREATE) };

export const REMOVE: Operation = { request: keyRequest(OPCODES.DELETE, Buffer.alloc(0)) };

/** Creates a count of 1 that lives for `ttl` seconds, 1 to 2592000; adds one to a count that exists. */
export function create(ttl: number): Operation {
  return { request: incrementRequest(1, ttl) };
}

/** Adds one to a count that exists, and lets it live for another `ttl` seconds, 1 to 2592000. */
export function increment(ttl: number): Operation {
  return {
    request: incrementRequest(0, NEVER_CREATE),
    touch: keyRequest(OPCODES.TOUCH, memjs.Utils.makeExpiration(ttl)),
  };
}

/** Logs in by SASL PLAIN (RFC 4616). `encode` it with the key '': the mechanism stands in the place of the key. */
export function login(username: string, password: string): Operation {
  const bytes = memjs.Utils.makeRequestBuffer(OPCODES.SASL_AUTH, 'PLAIN', '', `\0${username}\0${password}`, 0);
  return { request: { opcode: OPCODES.SASL_AUTH, bytes } };
}

function incrementRequest(initial: number, expiry: number): Request {
  return keyRequest(OPCODES.INCREMENT, memjs.Utils.makeAmountInitialAndExpiration(1, initial, expiry));
}

/** A request about a key, without a value. */
function keyRequest(opcode: number, extras: Buffer): Request {
  return { opcode, bytes: memjs.Utils.makeRequestBuffer(opcode, Buffer.alloc(KEY_LENGTH), extras, '', 0) };
}

/** Encodes requests as one packet. A key is 32 ASCII characters, or '' for a login; an opaque is an unsigned integer of 32 bits. */
export function encode(requests: readonly { request: Request; key: string; opaque: number }[]): Buffer {
  const packet = Buffer.concat(requests.map(({ request }) => request.bytes));
  let at = 0;
  for (const { request, key, opaque } of requests) {
    const end = at + request.bytes.length;
    packet.writeUInt32BE(opaque, at + OPAQUE_AT);
    if (key !== '') packet.write(key, end - KEY_LENGTH, 'latin1');
    at = end;
  }
  return packet;
}

/** The opaque after another. It wraps around after 32 bits. */
export function nextOpaque(opaque: number): number {
  return (opaque + 1) >>> 0;
}

/** The name of a command, for the log. */
export function nameOf(opcode: number): string {
  const [name] = Object.entries(OPCODES).find(([, each]) => each === opcode) ?? [];
  return name ?? `command 0x${opcode.toString(16)}`;
}

/** Reads the responses of one connection, in whatever pieces they arrive. It keeps one incomplete response at most. */
export class ResponseReader {
  #rest = Buffer.alloc(0);

  /**
   * Gives each response that is now complete to `onResponse`, in order.
   *
   * @throws Error for what cannot be a response, and whatever `onResponse` throws; nothing more may be read then
   */
  read(piece: Buffer, onResponse: (response: Response) => void): void {
    const bytes = Buffer.concat([this.#rest, piece]);
    let at = 0;
    while (at < bytes.length) {
      if (bytes[at] !== RESPONSE_MAGIC) throw new Error(`it sent ${quote(bytes.subarray(at))}`);
      if (bytes.length < at + HEADER_LENGTH) break;
      const end = at + HEADER_LENGTH + checkedBodyLength(bytes, at);
      if (bytes.length < end) break;
      onResponse(decode(bytes, at, end));
      at = end;
    }
    // A copy, because a view would keep the whole piece in memory.
    this.#rest = Buffer.from(bytes.subarray(at));
  }
}

/**
 * The body length that a header gives.
 *
 * @throws Error if no response of ours has such a body: a count is eight bytes and nothing else, all others are short
 */
function checkedBodyLength(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32BE(at + BODY_LENGTH_AT);
  const isCount = bytes[at + OPCODE_AT] === OPCODES.INCREMENT && bytes.readUInt16BE(at + STATUS_AT) === OK;
  const isBare = bytes.readUInt16BE(at + KEY_LENGTH_AT) === 0 && bytes[at + EXTRAS_LENGTH_AT] === 0;
  const isPossible = isCount ? length === COUNT_LENGTH && isBare : length <= MAX_BODY_LENGTH;
  if (isPossible) return length;
  throw new Error(`it sent a response to ${nameOf(bytes.readUInt8(at + OPCODE_AT))} of ${length} bytes`);
}

function decode(bytes: Buffer, at: number, end: number): Response {
  const opcode = bytes.readUInt8(at + OPCODE_AT);
  const opaque = bytes.readUInt32BE(at + OPAQUE_AT);
  const status = bytes.readUInt16BE(at + STATUS_AT);
  const body = at + HEADER_LENGTH;
  const response = (outcome: Response['outcome'], count = 0, words = ''): Response => {
    return { opcode, opaque, status, outcome, count, words };
  };
  if (status === NOT_FOUND) return response('not found');
  if (status !== OK) {
    const words = `${quote(bytes.subarray(body, end))}, status 0x${status.toString(16)}`;
    return response(REFUSALS[status] ?? 'refused', 0, words);
  }
  if (opcode !== OPCODES.INCREMENT) return response('ok');
  const count = bytes.readUInt32BE(body) * 2 ** 32 + bytes.readUInt32BE(body + 4);
  if (count > 0 && Number.isSafeInteger(count)) return response('ok', count);
  return response('refused', 0, `${bytes.readBigUInt64BE(body)} is no count`);
}

/** The beginning of what a server sent, for the log: printable ASCII on one line. */
function quote(bytes: Buffer): string {
  return JSON.stringify(bytes.toString('latin1', 0, MAX_QUOTE_LENGTH)).replace(/[^ -~]/g, '?');
}
