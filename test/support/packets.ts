// Packets of Memcached's binary protocol, put together and taken apart without src/, so that a mistake there is noticed here.
// The 24 bytes of their header are drawn in src/memcached/protocol.ts.

export const [DELETE, INCREMENT, TOUCH, LOGIN] = [0x04, 0x05, 0x1c, 0x21];
export const [OK, NOT_FOUND, NON_NUMERIC] = [0x00, 0x01, 0x06];
export const [AUTH_ERROR, AUTH_CONTINUE] = [0x20, 0x21];
export const [UNKNOWN_COMMAND, OUT_OF_MEMORY, BUSY] = [0x81, 0x82, 0x85];
const NEVER_CREATE = 0xffffffff;

/** A request or a response. */
export interface Packet {
  readonly magic: number;
  readonly opcode: number;
  readonly opaque: number;
  readonly status: number;
  readonly extras: Buffer;
  readonly key: string;
  readonly value: Buffer;
}

/** The whole packets at the beginning of some bytes, and the rest. */
export function split(bytes: Buffer): { packets: Packet[]; rest: Buffer } {
  const packets: Packet[] = [];
  let rest = bytes;
  while (rest.length >= 24 && rest.length >= 24 + rest.readUInt32BE(8)) {
    const key = 24 + rest.readUInt8(4);
    const value = key + rest.readUInt16BE(2);
    const end = 24 + rest.readUInt32BE(8);
    packets.push({
      magic: rest.readUInt8(0),
      opcode: rest.readUInt8(1),
      opaque: rest.readUInt32BE(12),
      status: rest.readUInt16BE(6),
      extras: rest.subarray(24, key),
      key: rest.toString('latin1', key, value),
      value: rest.subarray(value, end),
    });
    rest = rest.subarray(end);
  }
  return { packets, rest };
}

/** A response to a request. Of its value, so many bytes are in fact extras. */
export function response(
  { opcode, opaque }: Pick<Packet, 'opcode' | 'opaque'>,
  status: number = OK,
  value: string | Buffer | bigint = '',
  extras = 0,
): Buffer {
  const body = typeof value === 'bigint' ? Buffer.alloc(8) : Buffer.from(value);
  if (typeof value === 'bigint') body.writeBigUInt64BE(value);
  const header = Buffer.alloc(24);
  header.writeUInt8(0x81, 0);
  header.writeUInt8(opcode, 1);
  header.writeUInt8(extras, 4);
  header.writeUInt16BE(status, 6);
  header.writeUInt32BE(body.length, 8);
  header.writeUInt32BE(opaque, 12);
  return Buffer.concat([header, body]);
}

/** What an INCREMENT or a TOUCH asks for: seconds to live, or undefined if it must not create a key. */
export function ttlOf({ extras }: Packet): number | undefined {
  const seconds = extras.readUInt32BE(extras.length - 4);
  return seconds === NEVER_CREATE ? undefined : seconds;
}

/** Whether the next bytes are no response to the oldest request, as far as one can tell by now. */
export function isWrong(bytes: Buffer, oldest: Packet | undefined): boolean {
  if (bytes.length > 0 && bytes[0] !== 0x81) return true;
  if (bytes.length < 24) return false;
  const opcode = bytes.readUInt8(1);
  const length = bytes.readUInt32BE(8);
  const isBare = bytes.readUInt16BE(2) === 0 && bytes.readUInt8(4) === 0;
  const isCount = opcode === INCREMENT && bytes.readUInt16BE(6) === OK;
  if (isCount ? length !== 8 || !isBare : length > 1024) return true;
  const isWhole = bytes.length >= 24 + length;
  return isWhole && (opcode !== oldest?.opcode || bytes.readUInt32BE(12) !== oldest.opaque);
}
