import { test } from 'tap';
import {
  create,
  encode,
  following,
  increment,
  login,
  nameOf,
  probe,
  remove,
  ReplyReader,
  type Reply,
} from '../../src/counters/protocol.ts';

const KEY = 'k'.repeat(32);
const KEY_HEX = '6b'.repeat(32);

/** Bytes as hexadecimal digits; white space is for people. */
function hex(digits: string): Buffer {
  return Buffer.from(digits.replace(/\s/g, ''), 'hex');
}

function read(...pieces: Buffer[]): Reply[] {
  const reader = new ReplyReader();
  const replies: Reply[] = [];
  for (const piece of pieces) reader.read(piece, (reply) => replies.push(reply));
  return replies;
}

/** A reply: its opcode, its status, its number and its body. */
function reply(opcode: number, status: number, number: number, body: Buffer = Buffer.alloc(0), extras = 0): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt8(0x81, 0);
  header.writeUInt8(opcode, 1);
  header.writeUInt8(extras, 4);
  header.writeUInt16BE(status, 6);
  header.writeUInt32BE(body.length, 8);
  header.writeUInt32BE(number, 12);
  return Buffer.concat([header, body]);
}

await test('each question, byte for byte', (t) => {
  const bytes = (question: ReturnType<typeof probe>, number = 7): string =>
    encode([{ question, key: KEY }], number).toString('hex');
  const header = (opcode: string, keyLength: string, extras: string, body: string, number = '00000007'): string =>
    `80${opcode}${keyLength}${extras}000000${body}${number}0000000000000000`;
  const one = '0000000000000001';

  t.equal(bytes(create(3600)), `${header('05', '0020', '14', '00000034')}${one}${one}00000e10${KEY_HEX}`);
  t.equal(bytes(probe()), `${header('05', '0020', '14', '00000034')}${one}${'00'.repeat(8)}ffffffff${KEY_HEX}`);
  t.equal(
    bytes(increment(60), 0xffffffff),
    `${header('05', '0020', '14', '00000034', 'ffffffff')}${one}${'00'.repeat(8)}ffffffff${KEY_HEX}` +
      `${header('1c', '0020', '04', '00000024', '00000000')}0000003c${KEY_HEX}`,
    'INCREMENT and TOUCH have a number each, and the numbers begin anew after 32 bits',
  );
  t.equal(bytes(remove()), `${header('04', '0020', '00', '00000020')}${KEY_HEX}`);
  const plain = Buffer.from('PLAIN\0user\0pässword').toString('hex');
  t.equal(bytes(login('user', 'pässword')), `${header('21', '0005', '00', '00000014')}${plain}`);
  t.end();
});

await test('several questions make one packet, numbered one after the other', (t) => {
  const packet = encode(
    [
      { question: increment(60), key: KEY },
      { question: remove(), key: 'x'.repeat(32) },
    ],
    41,
  );
  t.equal(packet.length, 76 + 60 + 56);
  t.strictSame(
    [12, 76 + 12, 76 + 60 + 12].map((at) => packet.readUInt32BE(at)),
    [41, 42, 43],
  );
  t.equal(packet.toString('latin1', packet.length - 32), 'x'.repeat(32));
  t.equal(following(0xffffffff, 2), 1);
  t.end();
});

await test('replies in whatever pieces they come', (t) => {
  const stream = Buffer.concat([
    reply(0x05, 0, 1, hex('0000000000000007')),
    reply(0x1c, 0, 2, hex('00000000'), 4),
    reply(0x05, 1, 3, Buffer.from('Not found')),
    reply(0x04, 0, 4),
  ]);
  const expected = [
    { opcode: 0x05, number: 1, status: 0, outcome: 'ok', count: 7, text: '' },
    { opcode: 0x1c, number: 2, status: 0, outcome: 'ok', count: 0, text: '' },
    { opcode: 0x05, number: 3, status: 1, outcome: 'not found', count: 0, text: '' },
    { opcode: 0x04, number: 4, status: 0, outcome: 'ok', count: 0, text: '' },
  ];
  t.strictSame(read(stream), expected);
  for (const size of [1, 5, 23, 24, 25, 31, 33]) {
    const pieces = Array.from({ length: Math.ceil(stream.length / size) }, (_, n) =>
      stream.subarray(n * size, (n + 1) * size),
    );
    t.strictSame(read(...pieces), expected, `${size} bytes each`);
  }
  t.end();
});

await test('a count goes up to 2^53 - 1', (t) => {
  t.match(read(reply(0x05, 0, 1, hex('0000000100000000'))), [{ count: 2 ** 32 }]);
  t.match(read(reply(0x05, 0, 1, hex('001fffffffffffff'))), [{ count: Number.MAX_SAFE_INTEGER }]);
  for (const body of [
    '0020000000000000',
    '0000000000000000',
    'ffffffffffffffff',
    '',
    '07',
    '00000000000000000000000000000007',
  ]) {
    t.throws(() => read(reply(0x05, 0, 1, hex(body))), { message: /holds no count/ }, `not ${body || 'nothing'}`);
  }
  t.throws(
    () => read(reply(0x05, 0, 1, hex('0000000000000007'), 4)),
    { message: /holds no count/ },
    'not behind extras',
  );
  const withKey = reply(0x05, 0, 1, hex('0000000000000007'));
  withKey.writeUInt16BE(4, 2);
  t.throws(() => read(withKey), { message: /holds no count/ }, 'not behind a key');
  t.end();
});

await test('a refusal is told in a line, whatever the server says', (t) => {
  t.match(read(reply(0x05, 0x82, 1, Buffer.from('Out of memory'))), [
    { outcome: 'refused', text: '"Out of memory", status 0x82' },
  ]);
  const [{ text } = { text: '' }] = read(reply(0x05, 0x06, 1, Buffer.from(`a\nb\x1b[31m\u00e4"${'x'.repeat(900)}`)));
  t.match(text, /^"a\\nb\\u001b\[31m\?\?\\"x+", status 0x6$/);
  t.ok(text.length < 200);
  t.match(read(reply(0x05, 0x20, 1)), [{ outcome: 'login refused' }], 'a command may be refused for want of a login');
  for (const status of [0x20, 0x21, 0x81, 0x01]) t.match(read(reply(0x21, status, 1)), [{ outcome: 'login refused' }]);
  t.match(read(reply(0x21, 0, 1, Buffer.from('Authenticated'))), [{ outcome: 'ok' }]);
  t.equal(nameOf(0x04), 'DELETE');
  t.equal(nameOf(0x0a), 'command 0xa');
  t.end();
});

await test('what cannot be a reply is not waited for', (t) => {
  const tooLong = reply(0x05, 0, 1);
  tooLong.writeUInt32BE(0xfffffff0, 8);
  t.throws(() => read(tooLong), { message: 'a reply claims to be 4294967280 bytes long' });
  tooLong.writeUInt32BE(1025, 8);
  t.throws(() => read(tooLong), { message: /1025 bytes long/ });
  t.throws(() => read(Buffer.from('ERROR\r\n'.repeat(4))), { message: /no reply of the binary protocol/ });
  const request = reply(0x05, 0, 1);
  request[0] = 0x80;
  t.throws(() => read(request), { message: /no reply/ });
  t.end();
});
