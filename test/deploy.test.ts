import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { read, root } from './support/docs.ts';

const json = (file: string): unknown => JSON.parse(read(file));

interface Manifest {
  readonly engines: Record<string, string>;
  readonly scripts: Record<string, string>;
  readonly dependencies: Record<string, string>;
  readonly devDependencies: Record<string, string>;
}
const manifest = json('package.json') as Manifest;
const dependencies = { ...manifest.dependencies, ...manifest.devDependencies };

/** @see https://devcenter.heroku.com/articles/app-json-schema */
const KNOWN =
  'addons buildpacks description env environments formation image keywords logo name repository scripts stack success_url website';

await test('app.json holds what Heroku knows, and makes an app that works without a question', async (t) => {
  const app = json('app.json') as Record<string, unknown>;
  for (const key of Object.keys(app)) t.ok(KNOWN.split(' ').includes(key), `Heroku knows ${key}`);
  t.match(app, { name: /^[a-z][^]{2,29}$/i, description: /^.{10,140}$/, success_url: '/' });
  t.match((app.keywords as string[]).join(' '), /^[a-z]+( [a-z]+)*$/);
  t.strictSame(app.addons, [{ plan: 'memcachier:dev' }]);
  t.strictSame(app.formation, { web: { quantity: 1, size: 'basic' } });

  const env = app.env as Record<string, Record<string, unknown>>;
  t.strictSame(Object.keys(env).sort(), ['COUNTERS', 'LOG_LEVEL', 'SESSION_TTL']);
  for (const [name, { description, required, value = '', ...unknown }] of Object.entries(env)) {
    t.match(description, /^.{10,}$/, `${name} is described`);
    t.equal(required, false, `${name} is not demanded`);
    t.type(value, 'string');
    t.strictSame(unknown, {}, `Heroku knows all that is said of ${name}`);
  }
});

await test("the README's button deploys the repository that app.json names", async (t) => {
  const { repository = '' } = json('app.json') as { repository?: string };
  t.match(repository, /^https:\/\/github\.com\/[\w-]+\/[\w.-]+$/);
  const links = [...read('README.md').matchAll(/\]\((https:\/\/www\.heroku\.com\/deploy[^)]*)\)/g)];
  t.equal(links.map(([, link]) => link).join(), `https://www.heroku.com/deploy?template=${repository}`);
  t.match(read('README.md'), `\ngit clone ${repository}\n`, 'which is also the one to clone');
});

await test('the Procfile runs what a build leaves', async (t) => {
  const command = /^web: node --max-semi-space-size=16 --no-allocation-site-pretenuring (\S+)\n$/;
  const [, file = ''] = command.exec(read('Procfile')) ?? [];
  t.ok(file && existsSync(join(root, file)));
  t.match(manifest.scripts, { build: /&& tsc$/, start: 'node tools/run.js server' });
  t.equal(manifest.engines.node, '^20.12.0 || 22.x || 24.x || 26.x');
});

await test('every package is pinned, and none has an install script', async (t) => {
  for (const [name, version] of Object.entries(dependencies)) t.match(version, /^\d+\.\d+\.\d+$/, name);
  const { packages } = json('package-lock.json') as { packages: Record<string, Record<string, unknown>> };
  t.match(packages[''], { dependencies: manifest.dependencies, devDependencies: manifest.devDependencies });
  const locked = Object.entries(packages).filter(([path]) => path !== '');
  t.ok(locked.length > Object.keys(dependencies).length);
  for (const [path, { integrity, hasInstallScript }] of locked) t.ok(integrity && !hasInstallScript, path);
});
