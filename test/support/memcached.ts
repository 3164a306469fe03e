import { execFileSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, chmodSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { freePort, start, stop, until } from './processes.js';

export interface Memcached {
  readonly port: number;
  /** For `MEMCACHE_SERVERS`. */
  readonly address: string;
  /** Makes it fall silent, as if stalled, until `resume`. */
  stall(): void;
  resume(): void;
  /** Ends it at once. */
  kill(): Promise<void>;
  /** Starts it again, empty, on the same port. */
  restart(): Promise<void>;
  /** What its text command `stats` says, with an argument if given. Not with SASL, which speaks the binary protocol only. */
  stats(which?: string): Promise<Map<string, string>>;
}

/** What tests tear down with. */
interface Test {
  teardown(action: () => unknown): void;
}

export interface Login {
  readonly username: string;
  readonly password: string;
}

/** Starts a real memcached on a free port of the loopback address, empty, until the end of the test. */
export async function startMemcached(
  t: Test,
  { login, args = [] }: { login?: Login; args?: readonly string[] } = {},
): Promise<Memcached> {
  const port = await freePort();
  const sasl = login && saslDatabase(t, login);
  let child: ChildProcess;

  async function run(): Promise<void> {
    child = start(
      'memcached',
      ['-u', 'nobody', '-l', '127.0.0.1', '-p', String(port), '-U', '0', ...(sasl ? ['-S'] : []), ...args],
      { stdio: 'ignore', env: { ...process.env, ...sasl } },
    );
    await until('memcached listens', () => accepts(port));
  }

  await run();
  t.teardown(() => stop(child, 'SIGKILL'));
  return {
    port,
    address: `127.0.0.1:${port}`,
    stall: () => child.kill('SIGSTOP'),
    resume: () => child.kill('SIGCONT'),
    kill: async () => {
      await stop(child, 'SIGKILL');
    },
    restart: run,
    stats: (which = '') => stats(port, which),
  };
}

/** A SASL database with one user, and the environment that makes memcached use it. */
function saslDatabase(t: Test, { username, password }: Login): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'hello-n-sasl-'));
  t.teardown(() => {
    rmSync(folder, { recursive: true });
  });
  const database = join(folder, 'db');
  writeFileSync(join(folder, 'memcached.conf'), `mech_list: plain\nsasldb_path: ${database}\n`);
  execFileSync('saslpasswd2', ['-p', '-f', database, '-a', 'memcached', '-c', '-u', hostname(), username], {
    input: password,
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` },
  });
  // memcached gives up being root.
  chmodSync(folder, 0o755);
  chmodSync(database, 0o644);
  return { SASL_CONF_PATH: folder };
}

async function accepts(port: number): Promise<boolean> {
  const socket = createConnection(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function stats(port: number, which: string): Promise<Map<string, string>> {
  const socket = createConnection(port, '127.0.0.1').setEncoding('latin1');
  socket.write(`stats ${which}\r\n`);
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
    if (text.endsWith('END\r\n')) break;
  }
  return new Map([...text.matchAll(/^STAT (\S+) (.*)\r$/gm)].map(([, name = '', value = '']) => [name, value]));
}
