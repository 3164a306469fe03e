// Finds the words of words.txt, which this project does not use, in all of its text and code.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const FILES = ['*.md', '*.ts', '*.js', '*.html', '*.sh', '*.yml', 'app.json', 'package.json', '.ci/run'];

const entries = readFileSync(new URL('words.txt', import.meta.url), 'utf8')
  .split('\n')
  .filter((line) => line && !line.startsWith('#'))
  .map((line) => {
    const [word = '', better, where = ''] = line.split('|').map((part) => part.trim());
    // Two words may stand on two lines of a comment.
    const pattern = word.replaceAll(' ', String.raw`[\s*/#]+`);
    return { word, better, where, pattern: new RegExp(String.raw`\b${pattern}\b`, /[A-Z]/.test(word) ? 'g' : 'gi') };
  });

// New files as well, before they are added to Git.
const list = ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate', '-z', '--', ...FILES];
for (const file of execFileSync('git', list, { encoding: 'utf8' }).split('\0').filter(existsSync)) {
  const text = readFileSync(file, 'utf8');
  for (const { word, better, where, pattern } of entries) {
    if (!file.startsWith(where)) continue;
    for (const { index } of text.matchAll(pattern)) {
      console.error(`${file}:${text.slice(0, index).split('\n').length}: not "${word}"; write: ${better}`);
      process.exitCode = 1;
    }
  }
}
