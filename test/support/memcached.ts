import { execFileSync, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { accepts, freePort, start, stop, until } from './processes.js';

export interface Memcached {
  readonly port: number;
  /** For `MEMCACHE_SERVERS`. */
  readonly address: string;
  /** Makes it fall silent, as if stalled, until `resume`. */
  readonly stall: () => void;
  readonly resume: () => void;
  /** Ends it at once. */
  readonly kill: () => Promise<void>;
  /** Starts it again, empty, on the same port. */
  readonly restart: () => Promise<void>;
  /** Changes the password of the login that it was started with. */
  setPassword(password: string): void;
  /** Answers of its text protocol, which one with a login does not speak. */
  ask(command: string): Promise<string>;
  /** What `stats` says, about a topic if given. */
  stats(topic?: string): Promise<Map<string, string>>;
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

  async function ask(command: string): Promise<string> {
    const socket = createConnection(port, '127.0.0.1').setEncoding('latin1');
    socket.write(`${command}\r\n`);
    let answer = '';
    for await (const chunk of socket) {
      answer += String(chunk);
      if (/(^|\n)(END|OK|STORED|SERVER_ERROR.*|ERROR)\r\n$/.test(answer)) break;
    }
    return answer;
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
    setPassword: (password) => {
      if (login && sasl) setPassword(sasl.SASL_CONF_PATH, { ...login, password });
    },
    ask,
    stats: async (topic = '') => {
      const answer = await ask(`stats ${topic}`);
      return new Map([...answer.matchAll(/^STAT (\S+) (.*)\r$/gm)].map(([, name = '', value = '']) => [name, value]));
    },
  };
}

/** A SASL database with one user, and the environment that makes memcached use it. */
function saslDatabase(t: Test, login: Login): { SASL_CONF_PATH: string } {
  const folder = mkdtempSync(join(tmpdir(), 'hello-n-sasl-'));
  t.teardown(() => {
    rmSync(folder, { recursive: true });
  });
  writeFileSync(join(folder, 'memcached.conf'), `mech_list: plain\nsasldb_path: ${join(folder, 'db')}\n`);
  setPassword(folder, login);
  return { SASL_CONF_PATH: folder };
}

function setPassword(folder: string, { username, password }: Login): void {
  const database = join(folder, 'db');
  execFileSync('saslpasswd2', ['-p', '-f', database, '-a', 'memcached', '-c', '-u', hostname(), username], {
    input: password,
    env: { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin` },
  });
  // memcached gives up being root before it reads them.
  chmodSync(folder, 0o755);
  chmodSync(database, 0o644);
}
