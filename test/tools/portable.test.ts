import { readdirSync } from 'node:fs';
import { test } from 'tap';
import { read, root } from '../support/docs.ts';

/** What works on one system only, or hurts it. This file names it, so it is not among those that are read. */
const FORBIDDEN: readonly [what: string, pattern: RegExp][] = [
  ["the path of a file's URL by .pathname, where a space is %20", /import\.meta\.url\)\.pathname/],
  ['a signal to what may be a process group', /process\.kill\((?!pid, signal\)|process\.pid, )/],
  ['a negative process id', /kill\(\s*-/],
  ['PATH joined by a colon', /PATH\}:|:\$\{[^}]*PATH\}/],
];

await test('the sources use nothing that one system only knows', async (t) => {
  const list = (folder: string): string[] =>
    readdirSync(`${root}/${folder}`, { recursive: true }).map((file) => `${folder}/${String(file)}`);
  const isSource = (file: string): boolean => /\.[jt]s$/.test(file) && !/node_modules|portable\.test/.test(file);
  const files = ['src', 'tools', 'test', 'bench'].flatMap(list).filter(isSource);
  t.ok(files.length > 50);
  const lines = files.flatMap((file) =>
    read(file)
      .split('\n')
      .map((line) => `${file}: ${line}`),
  );
  for (const [what, pattern] of FORBIDDEN)
    t.strictSame(
      lines.filter((line) => pattern.test(line)),
      [],
      what,
    );
});

await test('the scripts of package.json know no shell, and hide nothing in a pre script', async (t) => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  for (const [name, script] of Object.entries(scripts)) {
    t.notMatch(script, /[';|<>$`{}()*~\\]|&(?!&)(?<!&&)/, name);
    for (const command of script.split(' && ')) t.match(command, /^(?:node|tap|tsc|tsc-watch)\b/, name);
    t.notOk(/^(?:pre|post)/.test(name), name);
  }
});
