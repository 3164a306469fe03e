import { test } from 'tap';
import * as protocol from '../../src/memcached/protocol.ts';
import { nameOf, nextOpaque, ResponseReader, type Operation, type Response } from '../../src/memcached/protocol.ts';
import { response } from '../support/packets.ts';

const KEY = 'k'.repeat(32);
const KEY_HEX = '6b'.repeat(32);

/** Bytes as hexadecimal digits; white space is for people. */
function hex(digits: string): Buffer {
  return Buffer.from(digits.replace(/\s/g, ''), 'hex');
}

function read(...pieces: Buffer[]): Response[] {
  const reader = new ResponseReader();
  const responses: Response[] = [];
  for (const piece of pieces) reader.read(piece, (each) => responses.push(each));
  return responses;
}

/** A response with opaque 1. */
function answer(opcode: number, status: number, value?: string | Buffer, extras = 0): Buffer {
  return response({ opcode, opaque: 1 }, status, value, extras);
}

/** All requests of an operation as one packet, with opaques from 7 on. */
function encode({ request, touch }: Operation, key = KEY): string {
  const requests = touch ? [request, touch] : [request];
  return protocol.encode(requests.map((each, n) => ({ request: each, key, opaque: 7 + n }))).toString('hex');
}

await test('each operation, byte for byte', async (t) => {
  const header = (opcode: string, keyLength: string, extras: string, body: string, opaque = '00000007'): string =>
    `80${opcode}${keyLength}${extras}000000${body}${opaque}0000000000000000`;
  const one = '0000000000000001';
  const incrementOnly = `${header('05', '0020', '14', '00000034')}${one}${'00'.repeat(8)}ffffffff${KEY_HEX}`;
  t.equal(encode(protocol.create(3600)), `${header('05', '0020', '14', '00000034')}${one}${one}00000e10${KEY_HEX}`);
  t.equal(encode(protocol.PROBE), incrementOnly);
  const touch = `${header('1c', '0020', '04', '00000024', '00000008')}0000003c${KEY_HEX}`;
  t.equal(encode(protocol.increment(60)), incrementOnly + touch);
  t.equal(encode(protocol.REMOVE), `${header('04', '0020', '00', '00000020')}${KEY_HEX}`);
  const plain = Buffer.from('PLAIN\0user\0pässword').toString('hex');
  t.equal(encode(protocol.login('user', 'pässword'), ''), `${header('21', '0005', '00', '00000014')}${plain}`);
  t.match(protocol.PROBE_KEY, /^\.{32}$/, 'no digest holds a dot');
});

await test('several requests make one packet, each with its key and its opaque', async (t) => {
  const [{ request }, { request: another }] = [protocol.create(60), protocol.REMOVE];
  const packet = protocol.encode([
    { request, key: KEY, opaque: 0xffffffff },
    { request: another, key: 'x'.repeat(32), opaque: 41 },
  ]);
  t.equal(packet.length, 76 + 56);
  t.strictSame([packet.readUInt32BE(12), packet.readUInt32BE(76 + 12)], [0xffffffff, 41]);
  t.equal(packet.toString('latin1', 44, 76), KEY);
  t.equal(packet.toString('latin1', packet.length - 32), 'x'.repeat(32));
  t.equal(nextOpaque(7), 8);
  t.equal(nextOpaque(0xffffffff), 0, 'after 32 bits they begin again');
});

await test('responses in whatever pieces they come', async (t) => {
  const stream = Buffer.concat([
    response({ opcode: 0x05, opaque: 1 }, 0, 7n),
    response({ opcode: 0x1c, opaque: 2 }, 0, hex('00000000'), 4),
    response({ opcode: 0x05, opaque: 3 }, 1, 'Not found'),
    response({ opcode: 0x04, opaque: 0xfffffffe }),
  ]);
  const expected = [
    { opcode: 0x05, opaque: 1, status: 0, outcome: 'ok', count: 7, words: '' },
    { opcode: 0x1c, opaque: 2, status: 0, outcome: 'ok', count: 0, words: '' },
    { opcode: 0x05, opaque: 3, status: 1, outcome: 'not found', count: 0, words: '' },
    { opcode: 0x04, opaque: 0xfffffffe, status: 0, outcome: 'ok', count: 0, words: '' },
  ];
  t.strictSame(read(stream), expected);
  for (const size of [1, 5, 23, 24, 25, 31, 33]) {
    const pieces: Buffer[] = [];
    for (let at = 0; at < stream.length; at += size) pieces.push(stream.subarray(at, at + size));
    t.strictSame(read(...pieces), expected, `${size} bytes each`);
  }
});

await test('a count is a number from 1 to 2^53 - 1, and bad data is no bad connection', async (t) => {
  t.match(read(answer(0x05, 0, hex('0000000100000000'))), [{ outcome: 'ok', count: 2 ** 32 }]);
  t.match(read(answer(0x05, 0, hex('001fffffffffffff'))), [{ outcome: 'ok', count: Number.MAX_SAFE_INTEGER }]);
  for (const [body, value] of [
    ['0020000000000000', '9007199254740992'],
    ['0000000000000000', '0'],
    ['ffffffffffffffff', '18446744073709551615'],
  ] as const) {
    const [first, second] = read(answer(0x05, 0, hex(body)), answer(0x05, 0, hex('0000000000000007')));
    t.match(first, { outcome: 'refused', count: 0, words: `${value} is no count` });
    t.match(second, { outcome: 'ok', count: 7 }, 'what follows is read');
  }
});

await test('a length that no response can have is noticed in its header', async (t) => {
  const header = (bytes: Buffer): Buffer => bytes.subarray(0, 24);
  for (const body of ['', '07', '00000000000000000000000000000007']) {
    const message = `it sent a response to INCREMENT of ${body.length / 2} bytes`;
    t.throws(() => read(header(answer(0x05, 0, hex(body)))), { message });
  }
  t.throws(() => read(header(answer(0x05, 0, hex('0000000000000007'), 4))), /INCREMENT of 8/, 'extras beside a count');
  const withKey = answer(0x05, 0, hex('0000000000000007'));
  withKey.writeUInt16BE(4, 2);
  t.throws(() => read(header(withKey)), /INCREMENT of 8/, 'a key beside a count');
  t.throws(() => read(header(answer(0x04, 1, 'x'.repeat(1025)))), /it sent a response to DELETE of 1025 bytes/);
  t.match(read(answer(0x05, 1, 'x'.repeat(1024))), [{ outcome: 'not found' }]);
  const endless = answer(0x0a, 0);
  endless.writeUInt32BE(0xfffffff0, 8);
  t.throws(() => read(endless), { message: 'it sent a response to command 0xa of 4294967280 bytes' });
});

await test('what is no response is noticed at its first byte, and quoted', async (t) => {
  t.throws(() => read(Buffer.from('ERROR\r\n')), { message: 'it sent "ERROR\\r\\n"' });
  t.throws(() => read(Buffer.from('E')), { message: 'it sent "E"' });
  t.throws(() => read(answer(0x04, 0), hex('15 03 03')), { message: 'it sent "\\u0015\\u0003\\u0003"' });
  const request = answer(0x05, 0);
  request[0] = 0x80;
  t.throws(() => read(request), /it sent "\?/);
});

await test('a refusal is told in a line, whatever the server says', async (t) => {
  t.match(read(answer(0x05, 0x82, 'Out of memory')), [{ outcome: 'refused', words: '"Out of memory", status 0x82' }]);
  const [{ words } = { words: '' }] = read(answer(0x05, 0x06, Buffer.from(`a\nb\x1b[31m\u00e4"${'x'.repeat(900)}`)));
  t.match(words, /^"a\\nb\\u001b\[31m\?\?\\"x{89}", status 0x6$/, 'its first hundred characters');
  const outcomes = { 0x20: 'auth error', 0x21: 'refused', 0x81: 'unknown command', 0x01: 'not found', 0x00: 'ok' };
  for (const [status, outcome] of Object.entries(outcomes)) t.match(read(answer(0x21, +status)), [{ outcome, status }]);
  t.strictSame([0x04, 0x05, 0x1c, 0x21].map(nameOf), ['DELETE', 'INCREMENT', 'TOUCH', 'SASL_AUTH']);
});
