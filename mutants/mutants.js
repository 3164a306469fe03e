// Runs StrykerJS on files of src/, each against the tests that concern it: `node mutants/mutants.js src/session.ts`, or on
// all files that have tests here. It needs a Node.js that runs TypeScript, 22.18 or later.
import { availableParallelism } from 'node:os';
import { delimiter, dirname } from 'node:path';
import { Stryker } from '@stryker-mutator/core';

const MEMCACHED = ['test/memcached/protocol.test.ts', 'test/memcached/client.test.ts'];
const COUNTERS = ['test/counters/counters.test.ts', 'test/counters/memcached.test.ts'];
/** What runs in a process of its own, as server.ts, shutdown.ts and runtime.ts do, is not tried: it takes too long. */
const TESTS = {
  'src/app.ts': ['test/app.test.ts'],
  'src/config.ts': ['test/config.test.ts'],
  'src/counters/counters.ts': ['test/session-hosts.test.ts', ...COUNTERS],
  'src/counters/memcached.ts': COUNTERS,
  'src/counters/memory.ts': ['test/counters/counters.test.ts'],
  'src/gate.ts': ['test/gate.test.ts', 'test/app.test.ts'],
  'src/memcached/client.ts': MEMCACHED,
  'src/memcached/connection.ts': MEMCACHED,
  'src/memcached/connector.ts': MEMCACHED,
  'src/memcached/login.ts': MEMCACHED,
  'src/memcached/protocol.ts': MEMCACHED,
  'src/memcached/report.ts': MEMCACHED,
  'src/memcached/touch.ts': MEMCACHED,
  'src/page.ts': ['test/page.test.ts'],
  'src/session.ts': ['test/session.test.ts', 'test/session-hosts.test.ts'],
};

const named = process.argv.slice(2);
const unknown = named.filter((file) => !(file in TESTS));
if (unknown.length > 0) {
  console.error(`No tests are listed for ${unknown.join(', ')}. Listed are:\n  ${Object.keys(TESTS).join('\n  ')}`);
  process.exit(1);
}
// StrykerJS starts whatever node is found first.
process.env.PATH = `${dirname(process.execPath)}${delimiter}${process.env.PATH}`;
// A search has to be short, as it runs for each change.
process.env.SIMULATIONS ??= '300';
process.env.SEED ??= '1';
for (const file of named.length > 0 ? named : Object.keys(TESTS)) await mutate(file);

async function mutate(file) {
  console.log(`\n== ${file}`);
  const stryker = new Stryker({
    mutate: [file],
    testRunner: 'tap',
    plugins: [import.meta.resolve('@stryker-mutator/tap-runner')],
    tap: { testFiles: TESTS[file], nodeArgs: ['-r', '{{hookFile}}', '{{testFile}}'] },
    coverageAnalysis: 'off',
    concurrency: availableParallelism(),
    ignorePatterns: ['bench', 'build', 'dist', 'docs', 'mutants'],
    reporters: ['clear-text'],
    clearTextReporter: { reportTests: false, allowColor: false },
    tempDirName: 'build/mutants',
  });
  const results = await stryker.runMutationTest();
  console.log(`${file}: ${results.length} mutants`);
}
