import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'tap';
import { freePort, stop, until } from '../tools/processes.ts';
import { blocks, inlineCode, read, root } from './support/docs.ts';
import { startMemcached } from './support/memcached.ts';
import { startProgram, type Owner, type Program } from './support/program.ts';
import { systemEnvironment } from './support/web.ts';

const README = read('README.md');

/** The app that the README shows, from what it says to copy and to install, in a folder of its own. */
class ReadersApp {
  readonly folder = mkdtempSync(join(tmpdir(), 'hello-n-readme-'));
  readonly #t: Owner;

  constructor(t: Owner) {
    this.#t = t;
    t.teardown(() => rmSync(this.folder, { recursive: true }));
    const section = README.slice(README.indexOf('## Take it along'));
    const copied = inlineCode(section.slice(0, section.indexOf('```'))).filter((code) => /.(?:\.ts|\/)$/.test(code));
    for (const path of copied.filter((path) => path !== 'src/'))
      cpSync(join(root, 'src', path), join(this.folder, path), { recursive: true });
    const commands = blocks(section, 'sh').join('');
    const installed = [...commands.matchAll(/(@?[\w/]+)@[\d.]+/g)].map(([, name = '']) => name);
    for (const name of ['fastify', 'typescript', '@types/node', ...installed]) {
      const link = join(this.folder, 'node_modules', name);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(join(root, 'node_modules', name), link);
    }
    this.write('package.json', JSON.stringify({ type: 'module' }));
  }

  write(file: string, text: string): void {
    writeFileSync(join(this.folder, file), text);
  }

  /** Writes the README's app as it stands there, but for what `change` does to it. */
  writeApp(file: string, change = (app: string): string => app): void {
    const [app = ''] = blocks(README, 'ts');
    this.write(file, change(app));
  }

  /** Compiles it as strictly as an app may. */
  compile(options: object): void {
    const compilerOptions = {
      target: 'es2022',
      types: ['node'],
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      verbatimModuleSyntax: true,
      skipLibCheck: true,
      ...options,
    };
    this.write('tsconfig.json', JSON.stringify({ compilerOptions, files: ['app.ts'] }));
    try {
      execFileSync(process.execPath, ['node_modules/typescript/bin/tsc'], { cwd: this.folder, encoding: 'utf8' });
    } catch (error) {
      throw new Error((error as { stdout: string }).stdout, { cause: error });
    }
  }

  /** Runs it with this Node.js, and waits until it listens. */
  async run(file: string, port: number, settings: Record<string, string> = {}): Promise<Program> {
    const program = startProgram(this.#t, [process.execPath, file], {
      cwd: this.folder,
      // Without tap's NODE_OPTIONS, which would compile TypeScript in the child process.
      env: { ...systemEnvironment(), NODE_OPTIONS: '', PORT: String(port), ...settings },
    });
    await until('the app listens', () => program.out().includes(`:${port}"`));
    return program;
  }
}

/** What a browser sends back of an answer's cookies. */
function cookiesOf(response: Response): { cookie: string } {
  const set = response.headers.getSetCookie();
  return { cookie: set.map((cookie) => cookie.split(';')[0]).join('; ') };
}

await test('the session runs in another TypeScript app, as the README tells it', async (t) => {
  const memcached = await startMemcached(t);
  const app = new ReadersApp(t);
  const port = await freePort();
  const url = `http://localhost:${port}`;
  const [, cookie = ''] = blocks(read('docs/questions.md'), 'ts');
  const [imports = '', routes = ''] = cookie.split(/\n\n/);
  app.writeApp('app.ts', (text) => {
    const local = text.replace('localhost:11211', `localhost:${memcached.port}`);
    return `${imports}\n${local.replace(/^app\.register\(session/m, `${routes}$&`)}`;
  });
  app.compile({ module: 'esnext', moduleResolution: 'bundler', allowImportingTsExtensions: true, noEmit: true });
  app.compile({ module: 'nodenext', rewriteRelativeImportExtensions: true, outDir: 'dist' });
  const { out, err } = await app.run('dist/app.js', port, { COOKIE_SECRET: 'a secret of at least 32 characters' });

  const first = await fetch(url);
  t.strictSame(await first.json(), { visits: 1 });
  const headers = cookiesOf(first);
  t.strictSame(await (await fetch(url, { headers })).json(), { visits: 2 });
  t.ok((await fetch(`${url}/goodbye`, { method: 'POST', headers })).ok);
  t.strictSame(await (await fetch(url, { headers })).json(), { visits: 1 });

  const dark = cookiesOf(await fetch(`${url}/dark`, { method: 'POST' }));
  t.equal(await (await fetch(`${url}/theme`, { headers: dark })).text(), 'dark');
  const forged = { cookie: dark.cookie.replace('=dark', '=blue') };
  t.equal(await (await fetch(`${url}/theme`, { headers: forged })).text(), 'light');
  t.equal(await (await fetch(`${url}/theme`)).text(), 'light');

  await memcached.kill();
  const answer = await fetch(url, { headers });
  t.equal(answer.status, 503);
  t.notMatch(await answer.text(), /localhost|127\.0\.0\.1|::1/);
  const lines = (out() + err()).trimEnd().split('\n');
  const wrong = lines.filter((line) => !/^\{"level":(?:30|40)|"statusCode":503/.test(line));
  t.strictSame(wrong, [], 'nothing but the lost store is wrong');
});

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const stripsTypes = major > 22 || (major === 22 && minor >= 18);

await test(
  'the session runs in another JavaScript app, as the README tells it',
  { skip: stripsTypes ? false : 'it takes Node.js 22.18 or later' },
  async (t) => {
    const memcached = await startMemcached(t);
    const app = new ReadersApp(t);
    const port = await freePort();
    cpSync(join(root, 'src/shutdown.ts'), join(app.folder, 'shutdown.ts'));
    const [shutdown = ''] = blocks(read('docs/questions.md'), 'ts');
    const [imports = '', prepared = ''] = shutdown.split(/\n\n/);
    app.writeApp('app.js', (text) => `${imports}\n${text.replace(/^await app\.listen/m, `${prepared}$&`)}`);
    const { child } = await app.run('app.js', port, {
      MEMCACHIER_SERVERS: `localhost:${memcached.port}`,
      DYNO: 'web.1',
    });
    const get = (headers: object): Promise<Response> =>
      fetch(`http://127.0.0.1:${port}`, { headers: { 'x-forwarded-proto': 'https', ...headers } });
    const first = await get({});
    t.match(first.headers.get('set-cookie'), /^__Host-sid=.*; Secure/);
    t.strictSame(await (await get(cookiesOf(first))).json(), { visits: 2 });
    t.equal(await stop(child), 0);
  },
);
