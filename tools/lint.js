// Checks types, rules and layout of everything that `npm run build` does not compile.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// The page's script becomes a file of its own. Its lines keep their numbers.
const page = readFileSync('views/hello.html', 'utf8').replaceAll('\r', '');
const [before = '', script = ''] = page.split(/(?<=<script>)|(?=<\/script>)/);
mkdirSync('build', { recursive: true });
writeFileSync('build/hello.js', `${before.replace(/.+/g, '')}${script.trimEnd()}\n`);

for (const part of ['test', 'tools', 'bench', 'views']) check('typescript/bin/tsc', '--noEmit', '--project', part);
check('eslint/bin/eslint.js', '.');
check('prettier/bin/prettier.cjs', '--check', '.');

function check(program, ...args) {
  console.log([program.split('/')[0], ...args].join(' '));
  const { status } = spawnSync(process.execPath, [join('node_modules', program), ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(1);
}
