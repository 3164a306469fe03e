import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'tap';
import { root } from '../support/docs.ts';

/** Text in which a tilde hides a word from the linter of this repository. */
function shown(text: string): string {
  return text.replaceAll('~', '');
}

await test('npm run lint names each word that the project does not use, and what to write instead', async (t) => {
  const folder = t.testdir({
    'README.md': shown('The page is retried.\nWho~ever reads this\nmay g~o\non.\n'),
    src: {
      'a.ts': shown('/**\n * El~se it go~es\n * on.\n */\n// or else\n'),
      memcached: { 'b.ts': shown('const li~nk = 1;\n') },
    },
    views: { 'c.html': '<link rel="icon" />\n' },
  });
  execFileSync('git', ['init', '--quiet'], { cwd: folder });
  const linter = spawnSync(process.execPath, [join(root, 'tools/words.js')], { cwd: folder, encoding: 'utf8' });
  const complaints = linter.stderr.trim().split('\n');
  t.strictSame(complaints.map((line) => line.replace(/not ".*"; write: /, '')).sort(), [
    'README.md:2: anybody who',
    'README.md:3: continue',
    'src/a.ts:2: Otherwise',
    'src/a.ts:2: continues',
    'src/memcached/b.ts:1: connection',
  ]);
  t.equal(linter.status, 1);
});
