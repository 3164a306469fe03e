import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { freePort, start, stop, until } from './processes.js';

/** Starts a memcached on a free port of the loopback address, empty. */
export async function startMemcached(megabytes = 64) {
  const port = await freePort();
  const args = ['-u', 'nobody', '-l', '127.0.0.1', '-p', port, '-U', 0, '-c', 4096, '-m', megabytes];
  const child = start('memcached', args.map(String));
  const connect = async () => {
    const socket = createConnection(port, '127.0.0.1').setEncoding('latin1');
    await once(socket, 'connect');
    return socket;
  };
  await until('memcached listens', () =>
    connect().then(
      (socket) => socket.destroy(),
      () => false,
    ),
  );
  return {
    address: `127.0.0.1:${port}`,
    children: [child],
    stop: () => stop(child),
    stats: async (which = '') => stats(await connect(), which),
    fill: async (sessions) => fill(await connect(), sessions),
  };
}

/** What its text command `stats` says, with an argument if given. */
async function stats(socket, which) {
  socket.write(`stats ${which}\r\n`);
  let text = '';
  for await (const chunk of socket) {
    text += chunk;
    if (text.endsWith('END\r\n')) break;
  }
  return Object.fromEntries(
    [...text.matchAll(/^STAT (\S+) (.*)\r$/gm)].map(([, name, value]) => [name, Number(value)]),
  );
}

/** Puts in so many live sessions of hello-n, each with a count of 1. */
async function fill(socket, sessions) {
  for (let first = 1; first <= sessions; first += 10_000) {
    let commands = '';
    for (let number = first; number < first + 10_000 && number <= sessions; number++) {
      commands += `set ${keyOf(idOf(number))} 0 86400 1 noreply\r\n1\r\n`;
    }
    if (!socket.write(commands)) await once(socket, 'drain');
  }
  // Its answer comes when all before it is done.
  socket.write('version\r\n');
  const [answer] = await once(socket, 'data');
  if (!answer.startsWith('VERSION')) throw new Error(`memcached says ${answer}`);
  socket.destroy();
}

/** The id of a session that was filled in; wrk.lua makes the same. */
export function idOf(number) {
  return String(number).padStart(24, '0');
}

/** As in src/session.ts. Were it not the same, the load would find the sessions unknown, which is looked at. */
function keyOf(id) {
  return createHash('sha256').update(id).digest('base64url').slice(0, 32);
}
