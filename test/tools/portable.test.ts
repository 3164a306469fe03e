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
  const files = ['src', 'tools', 'test', 'bench']
    .flatMap((folder) =>
      readdirSync(`${root}/${folder}`, { recursive: true }).map((file) => `${folder}/${String(file)}`),
    )
    .filter((file) => /\.[jt]s$/.test(file) && !/node_modules|portable\.test/.test(file));
  t.ok(files.length > 50);
  for (const [what, pattern] of FORBIDDEN) {
    const found = files.flatMap((file) =>
      read(file)
        .split('\n')
        .filter((line) => pattern.test(line))
        .map((line) => file + line),
    );
    t.strictSame(found, [], what);
  }
});

await test('the scripts of package.json know no shell, and hide nothing in a pre script', async (t) => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  for (const [name, script] of Object.entries(scripts)) {
    t.notMatch(script, /[';|<>$`{}()*~\\]|&(?!&)(?<!&&)/, name);
    for (const command of script.split(' && ')) t.match(command, /^(?:node|tap|tsc|tsc-watch)\b/, name);
    t.notOk(/^(?:pre|post)/.test(name), name);
  }
});
