import memjs from 'memjs';

// Memcached's binary protocol, as far as counting needs it. A request and its reply each begin with a header of 24 bytes:
//
//   0      1       2           4       5        6       8            12            16    24
//   magic  opcode  key length  extras  (unused) status  body length  our number    ...   extras, key, value
//
// The server answers the requests of a connection in order, and repeats the number of each in its reply.
// See https://github.com/memcached/memcached/blob/master/doc/protocol-binary.txt

const HEADER = 24;
const OPCODE_AT = 1;
const KEY_LENGTH_AT = 2;
const EXTRAS_LENGTH_AT = 4;
const STATUS_AT = 6;
const BODY_LENGTH_AT = 8;
const NUMBER_AT = 12;

const REPLY_MAGIC = 0x81;
const DELETE = 0x04;
const INCREMENT = 0x05;
const TOUCH = 0x1c;
const LOGIN = 0x21;
const NAMES: Record<number, string> = {
  [DELETE]: 'DELETE',
  [INCREMENT]: 'INCREMENT',
  [TOUCH]: 'TOUCH',
  [LOGIN]: 'the login',
};

const OK = 0x00;
const NOT_FOUND = 0x01;
const LOGIN_REFUSED = 0x20;

/** INCREMENT with this expiry never creates a key. */
const NEVER_CREATE = 0xffffffff;
const KEY_LENGTH = 32;
/** A reply holds a count or a short text; one that claims a longer body, in bytes, is none of ours. */
const LONGEST_BODY = 1024;
/** How much of a server's own words is passed on, in characters. */
const LONGEST_TEXT = 100;

/** What a server is asked in one go: one or two requests, encoded but for their key and their numbers. */
export interface Question {
  readonly opcodes: readonly number[];
  readonly bytes: Buffer;
  readonly places: readonly { readonly keyAt: number; readonly numberAt: number }[];
}

/** A reply whose header and length fit each other. */
export interface Reply {
  readonly opcode: number;
  readonly number: number;
  readonly status: number;
  readonly outcome: 'ok' | 'not found' | 'login refused' | 'refused';
  /** What INCREMENT gives: a whole number from 1 to 2^53 - 1. 0 for every other reply. */
  readonly count: number;
  /** A refusal in the server's words, escaped and cut to one line; else empty. */
  readonly text: string;
}

/** The server sent what is no answer to what it was asked, so nothing that follows can be trusted either. */
export class ProtocolError extends Error {}

/** A key that no session has, because a digest holds no dots. */
export const NOBODY = '.'.repeat(KEY_LENGTH);

/** Asks for a count that is not there. */
export function probe(): Question {
  return question([INCREMENT, memjs.Utils.makeAmountInitialAndExpiration(1, 0, NEVER_CREATE)]);
}

/** Creates a count of 1 that lives for `ttl` seconds. */
export function create(ttl: number): Question {
  return question([INCREMENT, memjs.Utils.makeAmountInitialAndExpiration(1, 1, ttl)]);
}

/** Adds one to a count that exists, and lets it live for another `ttl` seconds. */
export function increment(ttl: number): Question {
  return question(
    [INCREMENT, memjs.Utils.makeAmountInitialAndExpiration(1, 0, NEVER_CREATE)],
    [TOUCH, memjs.Utils.makeExpiration(ttl)],
  );
}

/** Deletes a count. */
export function remove(): Question {
  return question([DELETE, Buffer.alloc(0)]);
}

/** Logs in by SASL PLAIN (RFC 4616). It is about no key. */
export function login(username: string, password: string): Question {
  const bytes = memjs.Utils.makeRequestBuffer(LOGIN, 'PLAIN', '', `\0${username}\0${password}`, 0);
  return { opcodes: [LOGIN], bytes, places: [{ keyAt: bytes.length, numberAt: NUMBER_AT }] };
}

function question(...requests: [opcode: number, extras: Buffer][]): Question {
  const room = Buffer.alloc(KEY_LENGTH);
  const encoded = requests.map(([opcode, extras]) => memjs.Utils.makeRequestBuffer(opcode, room, extras, '', 0));
  let end = 0;
  const places = encoded.map(({ length }) => ({ numberAt: end + NUMBER_AT, keyAt: (end += length) - KEY_LENGTH }));
  return { opcodes: requests.map(([opcode]) => opcode), bytes: Buffer.concat(encoded), places };
}

/** Encodes questions as one packet. Their requests are numbered from `number` on, as unsigned 32 bits. */
export function encode(questions: readonly { question: Question; key: string }[], number: number): Buffer {
  const packet = Buffer.concat(questions.map(({ question }) => question.bytes));
  let at = 0;
  for (const { question, key } of questions) {
    for (const { keyAt, numberAt } of question.places) {
      packet.writeUInt32BE(number, at + numberAt);
      packet.write(key, at + keyAt, 'latin1');
      number = following(number, 1);
    }
    at += question.bytes.length;
  }
  return packet;
}

/** The number that comes so many requests after another. */
export function following(number: number, requests: number): number {
  return (number + requests) >>> 0;
}

/** The name of a command, for the log. */
export function nameOf(opcode: number): string {
  return NAMES[opcode] ?? `command 0x${opcode.toString(16)}`;
}

const NOTHING = Buffer.alloc(0);

/** Reads the replies of one connection, in whatever pieces they arrive. It keeps less than one reply. */
export class ReplyReader {
  #rest: Buffer = NOTHING;

  /**
   * Gives each reply that is now complete to `onReply`, in order.
   *
   * @throws ProtocolError for what cannot be a reply, and whatever `onReply` throws; nothing more may be read then
   */
  read(piece: Buffer, onReply: (reply: Reply) => void): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, piece]) : piece;
    let at = 0;
    while (bytes.length >= at + HEADER) {
      const end = endOf(bytes, at);
      if (bytes.length < end) break;
      onReply(replyAt(bytes, at, end));
      at = end;
    }
    // A copy, because a view would keep the whole piece in memory.
    this.#rest = at < bytes.length ? Buffer.from(bytes.subarray(at)) : NOTHING;
  }
}

/** Where the reply that begins at `at` ends, by its header. */
function endOf(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32BE(at + BODY_LENGTH_AT);
  if (bytes[at] !== REPLY_MAGIC) throw new ProtocolError('what it sent is no reply of the binary protocol');
  if (length > LONGEST_BODY) throw new ProtocolError(`a reply claims to be ${length} bytes long`);
  return at + HEADER + length;
}

function replyAt(bytes: Buffer, at: number, end: number): Reply {
  const opcode = bytes.readUInt8(at + OPCODE_AT);
  const number = bytes.readUInt32BE(at + NUMBER_AT);
  const status = bytes.readUInt16BE(at + STATUS_AT);
  const outcome = outcomeOf(opcode, status);
  const count = outcome === 'ok' && opcode === INCREMENT ? countAt(bytes, at, end) : 0;
  const isRefusal = outcome === 'refused' || outcome === 'login refused';
  const text = isRefusal ? `${quoted(bytes.subarray(at + HEADER, end))}, status 0x${status.toString(16)}` : '';
  return { opcode, number, status, outcome, count, text };
}

function outcomeOf(opcode: number, status: number): Reply['outcome'] {
  if (status === OK) return 'ok';
  if (opcode === LOGIN || status === LOGIN_REFUSED) return 'login refused';
  return status === NOT_FOUND ? 'not found' : 'refused';
}

function countAt(bytes: Buffer, at: number, end: number): number {
  const body = at + HEADER;
  const count = end - body === 8 ? bytes.readUInt32BE(body) * 2 ** 32 + bytes.readUInt32BE(body + 4) : 0;
  const isPlain = bytes.readUInt16BE(at + KEY_LENGTH_AT) === 0 && bytes[at + EXTRAS_LENGTH_AT] === 0;
  if (isPlain && count > 0 && Number.isSafeInteger(count)) return count;
  throw new ProtocolError('the reply to INCREMENT holds no count');
}

function quoted(text: Buffer): string {
  return JSON.stringify(text.toString('latin1', 0, LONGEST_TEXT)).replace(/[^ -~]/g, '?');
}
