import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { accepts, freePort, start, stop, until } from '../../tools/processes.ts';
import { root } from '../support/docs.ts';
import { preload } from '../support/web.ts';

const COPIED = ['package.json', 'tsconfig.json', 'app.json', 'src', 'tools', 'views', 'dist', 'build'];
/** Without what tap preloads, which costs time, and writes into the project. */
const PLAINLY = ['-u', 'NODE_OPTIONS', 'NODE_ENV='];

/** A copy of the project and of what it was compiled to, in a folder with an awkward name. */
function copy(t: { teardown(action: () => unknown): void }, packages: 'all' | 'no dev' | 'none' = 'all'): string {
  const parent = mkdtempSync(join(tmpdir(), 'hello-n-'));
  t.teardown(() => rmSync(parent, { recursive: true }));
  chmodSync(parent, 0o755);
  const folder = join(parent, 'My Pröject 100%');
  for (const name of COPIED)
    cpSync(join(root, name), join(folder, name), { recursive: true, preserveTimestamps: true });
  writeFileSync(join(folder, '.npmrc'), 'ignore-scripts=true\n');
  const modules = join(root, 'node_modules');
  if (packages === 'all') symlinkSync(modules, join(folder, 'node_modules'));
  if (packages === 'no dev') {
    mkdirSync(join(folder, 'node_modules/@fastify'), { recursive: true });
    for (const name of ['fastify', '@fastify/cookie', 'memjs'])
      symlinkSync(join(modules, name), join(folder, 'node_modules', name));
  }
  return folder;
}

function run(folder: string, ...command: string[]): { status: number | null; err: string } {
  const { status, stderr } = spawnSync('env', [...PLAINLY, ...command], { cwd: folder, encoding: 'utf8' });
  return { status, err: stderr };
}

await test('only what has changed is compiled, in a folder of any name, and with npm’s ignore-scripts', async (t) => {
  const folder = copy(t);
  const port = await freePort();
  const npmStart = [...PLAINLY, `PORT=${port}`, 'npm', 'start'];
  const app = start('env', npmStart, { cwd: folder, stdio: 'ignore' });
  await until('npm start greets', () => accepts(port), 60_000);
  await stop(app);
  await until('a signal to npm has reached the app', async () => !(await accepts(port)));
  const dynos = ['node', 'tools/run.js', 'dynos', '--help'];
  t.same(run(folder, ...dynos), { status: 0, err: '' }, 'nothing to compile');

  rmSync(join(folder, 'dist/app.js'), { force: true });
  writeFileSync(join(folder, 'dist/deleted.js'), '');
  t.same(run(folder, ...dynos), { status: 0, err: 'Compiling...\n' });
  t.ok(existsSync(join(folder, 'dist/app.js')), 'what was missing is there');
  t.notOk(existsSync(join(folder, 'dist/deleted.js')), 'what has no source any more is not');

  writeFileSync(join(folder, 'src/wrong.ts'), "export const wrong: number = '';\n");
  t.match(run(folder, 'node', 'tools/run.js', 'server'), { status: 1, err: 'Compiling...\n' }, 'an error is shown');
  t.notOk(existsSync(join(folder, 'dist/wrong.js')), 'and again at the next attempt');
});

await test('what is missing is named', async (t) => {
  const fresh = copy(t, 'none');
  for (const target of ['server', 'build', 'dev', 'test', 'lint', 'dynos', 'verify', 'rehearse', 'bench'])
    t.same(run(fresh, 'node', 'tools/run.js', target), { status: 1, err: 'Run npm ci first\n' }, target);

  const old = `Object.defineProperty(process, 'versions', { value: { node: '20.11.1' } })`;
  const err = 'This is Node.js 20.11.1; use 20.12 or later\n';
  t.same(run(root, process.execPath, ...preload(old), 'tools/run.js', 'server'), { status: 1, err });
  const unread = { status: 1, err: 'npm start takes no arguments; set variables, such as PORT\n' };
  t.same(run(root, 'node', 'tools/run.js', 'server', '--port', '80'), unread);

  const production = copy(t, 'no dev');
  t.same(run(production, 'node', 'tools/run.js', 'verify', '--help'), { status: 0, err: '' }, 'nothing to compile');
  rmSync(join(production, 'dist/app.js'));
  for (const target of ['server', 'test'])
    t.match(run(production, 'NODE_ENV=production', 'node', 'tools/run.js', target), {
      status: 1,
      err: /^The compiler is missing: .* Run npm ci --include=dev first\n$/,
    });
});

await test('flags that npm takes for its own are noticed', async (t) => {
  const lost: [args: string[], typed: string][] = [
    [['dynos', '--memory'], '--memory. Type: npm run dynos -- --memory'],
    [['dynos', '2', '--memory'], '--memory. Type: npm run dynos -- --memory 2'],
    [['verify', '--requests=500', 'http://a/'], '--requests=500. Type: npm run verify -- --requests=500 http://a/'],
  ];
  for (const [args, typed] of lost)
    t.same(run(root, 'npm', 'run', '--silent', ...args), {
      status: 1,
      err: `npm keeps ${typed.replace('. ', ' for itself. ')}\n`,
    });
});

await test('a user who may not install is told how, by the package manager of the machine', async (t) => {
  const nobody = process.getuid?.() === 0 ? ['/usr/bin/setpriv', '--reuid=65534', '--clear-groups'] : [];
  const folder = copy(t);
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const said = (...target: string[]): string =>
    run(folder, `PATH=${bin}`, ...nobody, process.execPath, 'tools/run.js', ...target).err;
  t.match(said('test'), /^Install these by your package manager first: memcached\n$/);
  for (const [manager, command] of [
    ['pacman', 'sudo pacman -S --needed --noconfirm memcached'],
    ['apk', 'sudo apk add --update-cache memcached'],
    ['dnf', 'sudo dnf install -y memcached'],
    ['apt-get', 'sudo apt-get install -y --no-install-recommends memcached'],
  ] as const) {
    writeFileSync(join(bin, manager), '', { mode: 0o755 });
    t.equal(said('test'), `Not installed: memcached. Run: ${command}\n`);
    t.match(said('setup'), `Run: ${command}`);
  }
  t.match(said('dynos'), / memcached\nOr go without it, to see the difference: npm run dynos -- --memory\n$/);
  t.equal(said('setup', 'more'), 'Usage: npm run setup [-- browser] [bench]\n');
});
