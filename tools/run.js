// Runs what a script of package.json names: `node tools/run.js server`. First it says what is missing, and compiles what
// has changed. In JavaScript and without packages, as it has to run when there is nothing else yet.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { advice, isInstalled, setUp } from './setup.js';

/** What to compile: the project, and where its sources and its output are. The tools take along some files of the app. */
const APP = { project: 'tsconfig.json', folders: [['src', 'dist']] };
const TOOLS = {
  project: 'tools/tsconfig.json',
  folders: [
    ['tools', 'build/tools'],
    ['src', 'build/src'],
  ],
};
const TARGETS = {
  server: { parts: [APP], file: 'dist/server.js' },
  dynos: { parts: [APP, TOOLS], file: 'build/tools/dynos.js', flags: ['memory', 'https'] },
  verify: { parts: [TOOLS], file: 'build/tools/verify.js', flags: ['requests', 'concurrency', 'for'] },
  rehearse: { parts: [TOOLS], needs: ['memcached'], file: 'build/tools/rehearse.js' },
  bench: { parts: [APP], needs: ['memcached'], flags: ['quick'], own: 'bench/bench.ts' },
  mutants: { needs: ['memcached'], needsCompiler: true, own: 'mutants/mutants.js' },
  test: { parts: [APP, TOOLS], needs: ['memcached'], needsCompiler: true },
  lint: { file: 'tools/lint.js', needsCompiler: true },
  build: { needsCompiler: true },
  dev: { needsCompiler: true },
};

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 12)) fail(`This is Node.js ${process.versions.node}; use 20.12 or later`);
process.chdir(join(import.meta.dirname, '..'));
const [name = '', ...args] = process.argv.slice(2);
if (name === 'setup') process.exit(setUp(args));
const { parts = [], needs = [], file, flags = [], needsCompiler = false, own } = TARGETS[name];
const stale = parts.filter(({ folders }) => !folders.every(isCurrent));

const swallowed = flags.filter((flag) => process.env[`npm_config_${flag}`] !== undefined);
if (swallowed.length > 0) {
  const values = swallowed.map((flag) => `--${flag}=${process.env[`npm_config_${flag}`]}`.replace(/=true$/, ''));
  // A value that npm has cut off is among the other arguments, in an order that nobody knows.
  const isCut = name === 'verify' && values.some((value) => !value.includes('='));
  const typed = isCut ? 'URL and the rest' : [...values, ...args].join(' ');
  fail(`npm keeps ${values.join(' ')} for itself. Type: npm run ${name} -- ${typed}`);
}
if (name === 'server' && args.length > 0) fail('npm start takes no arguments; set variables, such as PORT');
if (!existsSync('node_modules/fastify')) fail('Run npm ci first');
if ((needsCompiler || stale.length > 0) && !existsSync('node_modules/typescript'))
  fail('The compiler is missing: npm leaves it out if NODE_ENV is production. Run npm ci --include=dev first');
const missing = needs.filter((program) => !isInstalled(program));
if (missing.length > 0) fail(advice(missing));
if (name === 'dynos' && !isStoreGiven() && !isInstalled('memcached'))
  fail(`${advice(['memcached'])}\nOr go without it, to see the difference: npm run dynos -- --memory`);
if (stale.length > 0) {
  console.error('Compiling...');
  await Promise.all(stale.map(compile));
}
if (own) await runWithOwnPackages(own);
if (file) {
  process.argv.splice(1, 2, file);
  endWithParent();
  await import(`../${file}`);
}

/** npm sends signals to a shell, which may end and leave this process behind, as Debian's does. */
function endWithParent() {
  const { ppid } = process;
  const timer = setInterval(() => {
    if (process.ppid === ppid) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, 250);
  timer.unref();
}

/** Whether the dynos need no memcached from here. */
function isStoreGiven() {
  const given = Object.entries(process.env).some(
    ([key, value]) => /^(COUNTERS|MEMCACHE.*_SERVERS)$/.test(key) && value,
  );
  return given || args.includes('--memory') || args.includes('--help');
}

/** Whether all sources were compiled after their last change. Of the app, the tools take along some files only. */
function isCurrent([from, to]) {
  const [sources, outputs] = [list(from, '.ts'), list(to, '.js')];
  const isComplete = to === 'build/src' ? outputs.length > 0 : sources.every((source) => outputs.includes(source));
  const settings = Math.max(changed('tsconfig.json'), changed('tools/tsconfig.json'));
  return (
    isComplete &&
    outputs.every((output) => {
      const compiled = changed(join(to, `${output}.js`));
      return sources.includes(output) && compiled >= settings && compiled >= changed(join(from, `${output}.ts`));
    })
  );
}

async function compile({ project, folders }) {
  // The compiler leaves there what it no longer compiles: from sources that are gone, or that no tool imports any more.
  for (const [, to] of folders) rmSync(to, { recursive: true, force: true });
  await run(process.execPath, ['node_modules/typescript/bin/tsc', '--project', project]);
}

/** The names of all files in a folder with this ending, without it. */
function list(folder, ending) {
  if (!existsSync(folder)) return [];
  const files = readdirSync(folder, { recursive: true }).filter((path) => path.endsWith(ending));
  return files.map((path) => path.slice(0, -ending.length));
}

function changed(path) {
  return statSync(path).mtimeMs;
}

/** Runs a file whose folder has packages of its own, on the Node.js that they bring, if they do. */
async function runWithOwnPackages(script) {
  const folder = dirname(script);
  const [installed, wanted] = [`${folder}/node_modules/.package-lock.json`, `${folder}/package-lock.json`];
  if (!existsSync(installed) || changed(installed) < changed(wanted)) {
    console.error(`Installing the packages of ${folder}/...`);
    await run('npm', ['--prefix', folder, 'ci', '--ignore-scripts', '--loglevel=error']);
  }
  const node = `${folder}/node_modules/.bin/node`;
  await run(existsSync(node) ? node : process.execPath, [script, ...args]);
}

/** Runs a program to its end. If it fails, this process exits with the same status. */
function run(command, commandArgs) {
  const child = spawn(command, commandArgs, { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  return new Promise((resolve) => {
    child.on('error', (error) => fail(`${command} cannot be run: ${error.message}`));
    child.on('exit', (status) => (status === 0 ? resolve() : process.exit(status ?? 1)));
  });
}

function fail(complaint) {
  console.error(complaint);
  process.exit(1);
}
