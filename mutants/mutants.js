// Runs StrykerJS on files of src/, each against the tests that concern it: `node mutants/mutants.js src/session.ts`, or on
// all files that have tests here. It needs a Node.js that runs TypeScript, 22.18 or later.
import { availableParallelism } from 'node:os';
import { delimiter, dirname } from 'node:path';
import { Stryker } from '@stryker-mutator/core';

const SEARCH = 'test/support/search.ts 1 300';
const MEMCACHED = [SEARCH, 'test/memcached/protocol.test.ts', 'test/memcached/client.test.ts'];
const COUNTERS = ['test/counters/counters.test.ts', 'test/counters/memcached.test.ts'];
const TESTS = {
  'src/app.ts': ['test/app.test.ts', 'test/gate.test.ts', 'test/server.test.ts'],
  'src/config.ts': ['test/config.test.ts'],
  'src/counters/counters.ts': ['test/session.test.ts', ...COUNTERS],
  'src/counters/memcached.ts': COUNTERS,
  'src/counters/memory.ts': ['test/counters/counters.test.ts'],
  'src/gate.ts': ['test/gate.test.ts', 'test/app.test.ts'],
  'src/log.ts': ['test/server.test.ts'],
  'src/memcached/addresses.ts': MEMCACHED,
  'src/memcached/backoff.ts': MEMCACHED,
  'src/memcached/client.ts': MEMCACHED,
  'src/memcached/connection.ts': MEMCACHED,
  'src/memcached/protocol.ts': MEMCACHED,
  'src/memcached/runtime.ts': ['test/memcached/client.test.ts', ...COUNTERS],
  'src/memcached/server.ts': MEMCACHED,
  'src/memcached/server-record.ts': MEMCACHED,
  'src/page.ts': ['test/page.test.ts', 'test/gate.test.ts', 'test/app.test.ts'],
  'src/server.ts': ['test/server.test.ts', 'test/shutdown.test.ts'],
  'src/session.ts': ['test/session.test.ts', ...COUNTERS],
  'src/shutdown.ts': ['test/shutdown.test.ts', 'test/server.test.ts'],
};

const table = ['file: mutants, killed, survived'];
const named = process.argv.slice(2);
const unknown = named.filter((file) => !(file in TESTS));
if (unknown.length > 0) {
  console.error(`No tests are listed for ${unknown.join(', ')}. Listed are:\n  ${Object.keys(TESTS).join('\n  ')}`);
  process.exit(1);
}
// The tests run on whatever node is found first.
process.env.PATH = `${dirname(process.execPath)}${delimiter}${process.env.PATH}`;
// One failure is enough.
process.env.TAP_BAIL = '1';
// The search within client.test.ts need not be long, as another one came before it.
process.env.SIMULATIONS ??= '1';
for (const file of named.length > 0 ? named : Object.keys(TESTS)) await mutate(file);
console.log(`\n${table.join('\n')}`);

async function mutate(file) {
  console.log(`\n== ${file}`);
  const stryker = new Stryker({
    mutate: [file],
    commandRunner: { command: TESTS[file].map((test) => `node ${test}`).join(' && ') },
    // For the tests that start processes. All mutants are compiled once; the environment tells each process which it runs.
    buildCommand: 'node ../../../node_modules/typescript/bin/tsc',
    // It writes @ts-nocheck into each of these; the page has no bytes left for that.
    disableTypeChecks: '{src,test}/**/*.ts',
    concurrency: availableParallelism(),
    // A test that waits for what never comes fails within half a minute.
    timeoutMS: 20_000,
    ignorePatterns: ['bench', 'build', 'dist', 'docs', 'mutants'],
    reporters: [],
    logLevel: 'error',
    tempDirName: 'build/mutants',
  });
  const results = await stryker.runMutationTest();
  const tried = results.filter(({ status }) => status !== 'Ignored');
  const survivors = tried.filter(({ status }) => status === 'Survived');
  for (const { location, replacement } of survivors)
    console.log(`${file}:${location.start.line}:${location.start.column + 1} survived as ${replacement}`);
  table.push(`${file}: ${tried.length}, ${tried.length - survivors.length}, ${survivors.length}`);
}
