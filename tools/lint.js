// Checks types, rules and layout of everything that `npm run build` does not compile, and the words of all that is read.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, extname } from 'node:path';

// The page's script becomes a file of its own. Line numbers are preserved.
const page = readFileSync('views/hello.html', 'utf8').replaceAll('\r', '');
const [before = '', script = ''] = page.split(/(?<=<script>)|(?=<\/script>)/);
mkdirSync('build', { recursive: true });
writeFileSync('build/hello.js', `${before.replace(/.+/g, '')}${script.trimEnd()}\n`);

for (const part of ['test', 'tools', 'bench', 'views'])
  run('node_modules/typescript/bin/tsc', '--noEmit', '--project', part);
run('node_modules/eslint/bin/eslint.js', '.');
run('node_modules/prettier/bin/prettier.cjs', '--check', '.');
run('tools/words.js');

function run(program, ...args) {
  console.log([basename(program, extname(program)), ...args].join(' '));
  const { status } = spawnSync(process.execPath, [program, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(1);
}
