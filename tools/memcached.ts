import { execFileSync, spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { freePort, listens, start, stop, until } from './processes.ts';

export interface Login {
  readonly username: string;
  readonly password: string;
}

export interface MemcachedOptions {
  /** What clients have to log in with. Without it, memcached accepts everybody. */
  readonly login?: Login;
  /** More arguments for memcached. */
  readonly args?: readonly string[];
}

/** A memcached on 127.0.0.1. */
export type Memcached = Awaited<ReturnType<typeof startMemcached>>;

/** Where Debian keeps saslpasswd2. */
const SASL_ENV = { ...process.env, PATH: [process.env.PATH, '/usr/sbin'].join(delimiter) };

/** Why no memcached with a login can be started here; empty if one can. Homebrew's is built without SASL. */
export function whyNoLogin(): string {
  const { status, error } = spawnSync('memcached', ['-S', '-V']);
  if (!error && status !== 0) return 'this memcached was built without SASL';
  return spawnSync('saslpasswd2', ['-h'], { env: SASL_ENV }).error ? 'saslpasswd2 is not installed' : '';
}

/** Starts memcached. Fails with a sentence for people if it is not installed or does not start. */
export async function startMemcached({ login, args = [] }: MemcachedOptions = {}) {
  const port = await freePort();
  const database = login && createDatabase(login);
  let child = await run();

  async function run(): Promise<ChildProcess> {
    const all = [
      '-u',
      'nobody',
      '-l',
      '127.0.0.1',
      '-p',
      String(port),
      '-U',
      '0',
      ...(database ? ['-S'] : []),
      ...args,
    ];
    const env = { ...process.env, ...database?.env };
    const started = start('memcached', all, { stdio: ['ignore', 'ignore', 'pipe'], env });
    let complaint = '';
    started.stderr?.setEncoding('utf8').on('data', (text: string) => (complaint ||= text));
    try {
      await listens(started, port);
    } catch (error) {
      throw new Error(explain(error as NodeJS.ErrnoException, complaint), { cause: error });
    }
    return started;
  }

  /** Sends a line of the text protocol, which memcached with a login does not speak, and gives the answer. */
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

  return {
    port,
    /** For `MEMCACHE_SERVERS`. */
    address: `127.0.0.1:${port}`,
    /** Its process; after `restart`, another one. */
    get child() {
      return child;
    },
    /** Makes it answer nothing until `resume`. */
    stall: async () => {
      child.kill('SIGSTOP');
      await until('memcached stalls', () => isStopped(child));
    },
    resume: () => child.kill('SIGCONT'),
    /** Ends it at once. `restart` may follow. */
    kill: () => stop(child, 'SIGKILL'),
    /** Starts it again after it ended, empty, on the same port. */
    restart: async () => {
      child = await run();
    },
    /** Ends it for good. SIGTERM would wait for `resume` if it is stalled. */
    stop: async () => {
      await stop(child, 'SIGKILL');
      database?.remove();
    },
    /** Changes the password of its login. The next login needs the new one. */
    setPassword: (password: string) => {
      if (login) database?.set({ ...login, password });
    },
    ask,
    /** The answer to `stats`, of a topic if given. */
    stats: async (topic = '') => {
      const answer = await ask(`stats ${topic}`);
      return new Map([...answer.matchAll(/^STAT (\S+) (.*)\r$/gm)].map(([, name = '', value = '']) => [name, value]));
    },
  };
}

function explain({ code, message }: NodeJS.ErrnoException, complaint: string): string {
  if (code !== 'ENOENT') return `memcached does not start: ${complaint.trim() || message}`;
  return 'memcached is not installed; npm run setup installs it, or says how';
}

/** Whether each of its threads has been stopped, which takes a moment on a busy machine. Only Linux tells. */
function isStopped({ pid }: ChildProcess): boolean {
  if (process.platform !== 'linux') return true;
  const threads = `/proc/${pid}/task`;
  return readdirSync(threads).every((id) => readFileSync(`${threads}/${id}/stat`, 'utf8').includes(') T '));
}

/** Creates a SASL database with one login. It is removed when this process ends, at the latest. */
function createDatabase(login: Login) {
  const folder = mkdtempSync(join(tmpdir(), 'hello-n-sasl-'));
  const file = join(folder, 'db');
  writeFileSync(join(folder, 'memcached.conf'), `mech_list: plain\nsasldb_path: ${file}\n`);
  // memcached reads them as nobody.
  chmodSync(folder, 0o755);
  process.once('exit', remove);
  set(login);
  /** `env` makes memcached use it. */
  return { env: { SASL_CONF_PATH: folder }, set, remove };

  function set({ username, password }: Login): void {
    const args = ['-p', '-f', file, '-a', 'memcached', '-c', '-u', hostname(), username];
    execFileSync('saslpasswd2', args, { input: password, env: SASL_ENV });
    chmodSync(file, 0o644);
  }

  function remove(): void {
    process.off('exit', remove);
    rmSync(folder, { recursive: true, force: true });
  }
}
