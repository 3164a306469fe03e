import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'tap';
import { readConfig } from '../src/config.ts';
import { blocks, inlineCode, read, root } from './support/docs.ts';

const docs = readdirSync(join(root, 'docs')).filter((file) => file.endsWith('.md'));
const texts = new Map(['README.md', ...docs.map((file) => `docs/${file}`)].map((file) => [file, read(file)]));
const README = read('README.md');
const everything = [...texts.values()].join('\n');

/** Which file runs a command, and the words in that file that do. */
const RUN_BY: readonly [command: RegExp, file: string, words: string][] = [
  [/^git clone \S+$/, 'tools/rehearse.ts', "'git', 'clone'"],
  [/^npm (?:ci|start|test)$/, '.ci/run', '$&'],
  [/^npm run (?:setup|setup -- browser|dev|lint|test:browser|rehearse|bench)$/, '.ci/run', '$&'],
  [/^npm run setup -- bench$/, '.ci/run', 'npm run setup -- browser bench'],
  [/^\.ci\/run$/, '.github/workflows/ci.yml', '- run: $&'],
  [/^npm run build$/, 'tools/rehearse.ts', "'build'"],
  [/^heroku local$/, 'tools/rehearse.ts', 'exec heroku local'],
  [/^npm run dynos$/, 'test/tools/dynos.test.ts', 'startDynos(t, [], {}, true)'],
  [/^npm run dynos -- --memory$/, 'test/tools/dynos.test.ts', "'--memory'"],
  [/^npm run verify(?: -- http.*)?$/, 'test/tools/verify.test.ts', "run('verify', args)"],
];
/** What no test can run, and why. */
const NOT_RUN: readonly [reason: string, commands: RegExp][] = [
  [
    'needs a Heroku account, and some of it costs money',
    /^(?:git push heroku main|heroku (?:create|open|logs|ps|config|apps:destroy|git:remote -a YOUR-APP|(?:addons|config|ps):[a-z]+ \S+))$/,
  ],
  ["changes another app's package.json; test/recipe.test.ts runs on the packages that it names", /^npm install .*/],
  ['takes minutes for each file', /^npm run mutants(?: -- \S+)?$/],
];

await test('each command is run by a test or in CI', async (t) => {
  const pasted = blocks(everything, 'sh').flatMap((block) => block.trim().split('\n'));
  const named = inlineCode(everything).filter((code) => /^(?:npm|heroku|git|\.ci\/run)\b/.test(code));
  const commands = new Set([...pasted, ...named].filter((line) => !line.startsWith('cd ')));
  t.ok(commands.size > 20);
  for (const command of commands) {
    if (NOT_RUN.some(([, pattern]) => pattern.test(command))) continue;
    const [pattern, file = '', words = ''] = RUN_BY.find(([pattern]) => pattern.test(command)) ?? [];
    t.ok(pattern && read(file).includes(command.replace(pattern, words)), command);
  }
});

/** Commands that end, and read nothing from the terminal. */
const ENDS = /^(?:git clone|git push|cd|npm ci|npm install|heroku create|heroku addons:create) ?/;

await test('a block of commands can be pasted as it is, in every shell', async (t) => {
  for (const block of blocks(everything, 'sh')) {
    const lines = block.trim().split('\n');
    for (const line of lines.slice(0, -1)) t.match(line, ENDS, 'no program in it waits for the next line');
    // PowerShell 5.1, which comes with Windows, knows no &&.
    for (const line of lines) t.notMatch(line, '&&');
  }
  t.equal(README.match(/npm ci/g)?.length, 1, 'the packages are installed once');
});

await test('the README can be read in a few minutes, and one screen leads to five dynos', async (t) => {
  const lines = README.trimEnd().split('\n');
  t.ok(lines.length <= 150, `${lines.length} lines`);
  const [screen = ''] = README.split('\n## ');
  t.match(screen, '](docs/hello.gif)');
  t.match(blocks(screen, 'sh')[0], /^git clone .*\ncd .*\nnpm ci\nnpm run dynos\n$/);
  const headings = README.match(/^## .*$/gm)?.map((heading) => heading.slice(3));
  t.strictSame(headings, ['Deploy it', 'Understand it', 'Take it along', 'Settings', 'Work on it']);
});

await test('every error code is explained, in the words of the app', async (t) => {
  const table = read('docs/questions.md').matchAll(/^\| `(ERR_\w+)` +\| (.*?) +\|/gm);
  const explained = [...table].map(([, code = '', message = '']) => ({ code, message }));
  const declared = new Set(read('src/counters/counters.ts').match(/\bERR_\w+/g));
  t.strictSame(explained.map(({ code }) => code).sort(), [...declared].sort());
  for (const { message } of explained) t.match(read('src/counters/counters.ts'), message);
});

await test('every link to a file leads somewhere', async (t) => {
  for (const [file, text] of texts) {
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target.startsWith('https:')) continue;
      const [path = '', anchor] = target.split('#');
      const linked = path === '' ? file : join(dirname(file), path);
      if (t.ok(existsSync(join(root, linked)), `${file}: ${target}`) && anchor !== undefined)
        t.ok(anchors(read(linked)).includes(anchor), `${file}: ${target}`);
    }
  }
});

/** The anchors of headings, as GitHub makes them. */
function anchors(text: string): string[] {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading.toLowerCase());
  return headings.map((heading) => heading.replace(/[^\w\- ]/g, '').replaceAll(' ', '-'));
}

await test('the variables named are those that the app reads', async (t) => {
  const asked = new Set<string>();
  const get = (_env: object, name: string | symbol): void => void asked.add(String(name));
  readConfig(new Proxy<NodeJS.ProcessEnv>({}, { get }));
  const rows = [...README.matchAll(/^\| (`[A-Z][^|]*`) +\|/gm)].map(([, names = '']) => inlineCode(names));
  const described = rows.flatMap(([name = '', ...suffixes]) =>
    ['_SERVERS', ...suffixes].map((suffix) => name.replace('_SERVERS', suffix)),
  );
  t.strictSame(described.sort(), [...asked].sort());

  const OTHERS = ['COOKIE_SECRET', 'FIGURES', 'PERSISTENT'];
  const named = inlineCode(everything).flatMap((code) => /\b[A-Z]+(?:_[A-Z]+)+\b|^[A-Z]{4,}(?==)/g.exec(code) ?? []);
  for (const name of new Set(named)) t.ok(asked.has(name) || OTHERS.includes(name) || name.startsWith('ERR_'), name);
});
