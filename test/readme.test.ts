import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { startMemcached } from './support/memcached.js';
import { freePort, start, stop } from './support/processes.js';
import { systemEnvironment } from './support/web.js';

const root = new URL('..', import.meta.url).pathname;
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** The README's code blocks in a language. */
function blocks(language: string): string[] {
  const block = new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'gm');
  return [...read('README.md').matchAll(block)].map(([, text = '']) => text);
}

/** What runs the README's commands: the file, and what says so in it. Those that need an account nobody runs here. */
const RUN_BY: readonly [command: RegExp, file: string, evidence: string][] = [
  [/^npm (ci|start|test)$/, '.ci/run', '$&'],
  [/^npm run (setup|dev|lint|test:browser|rehearse|bench)$/, '.ci/run', '$&'],
  [/^npm run build$/, 'tools/rehearse.ts', "'build'"],
  [/^heroku local$/, 'tools/rehearse.ts', 'exec heroku local'],
  [/^npm run dynos$/, 'test/dynos.test.ts', 'startDynos(t)'],
  [/^npm run verify -- http.*$/, 'test/verify.test.ts', "run('verify', args)"],
  [/^heroku (create|open|addons:create memcachier:dev|ps:scale web=\S+)$/, 'README.md', '$&'],
  [/^git push heroku main$/, 'README.md', '$&'],
];

await test('each command of the README is run by a test or in CI', (t) => {
  const commands = blocks('sh').flatMap((block) => block.trim().split(/\n| && /));
  t.ok(commands.length > 15);
  for (const command of commands) {
    const [shape, file = '', evidence = ''] = RUN_BY.find(([of]) => of.test(command)) ?? [];
    t.ok(shape && read(file).includes(command.replace(shape, evidence)), command);
  }
  t.ok(read('README.md').split('\n').length <= 251, 'the README can be read in five minutes');
  t.end();
});

await test("the README's app with a session of its own runs as it stands there", async (t) => {
  const memcached = await startMemcached(t);
  const port = await freePort();
  mkdirSync(join(root, 'build'), { recursive: true });
  const folder = mkdtempSync(join(root, 'build', 'app-'));
  t.teardown(() => {
    rmSync(folder, { recursive: true });
  });
  // It goes beside what the README says to take.
  for (const part of ['session.js', 'counters'])
    cpSync(join(root, 'dist', part), join(folder, part), { recursive: true });
  const [example = ''] = blocks('js');
  writeFileSync(join(folder, 'app.js'), example.replace('11211', `${memcached.port}`).replace('3000', `${port}`));
  const app = start(process.execPath, [join(folder, 'app.js')], {
    env: systemEnvironment(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => stop(app, 'SIGKILL'));
  await new Promise((resolve) => app.stdout?.once('data', resolve));

  const url = `http://localhost:${port}`;
  const first = await fetch(url);
  t.strictSame(await first.json(), { visits: 1 });
  const headers = { cookie: first.headers.get('set-cookie')?.split(';')[0] ?? '' };
  t.strictSame(await (await fetch(url, { headers })).json(), { visits: 2 });
  t.ok((await fetch(`${url}/goodbye`, { method: 'POST', headers })).ok);
  t.strictSame(await (await fetch(url, { headers })).json(), { visits: 1 });
});
