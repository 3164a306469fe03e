import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { buildApp } from './app.js';
import { readConfig } from './config.js';
import { MemcachedCounters } from './counters/memcached.js';
import { MemoryCounters } from './counters/memory.js';
import { stopListening } from './drain.js';

// Else V8, having seen a few hundred requests wait for the store together, may take all that follow for long-lived ones,
// and the process spends a quarter more of its time on collecting them, until it ends.
setFlagsFromString('--no-allocation-site-pretenuring');

const config = readConfig(process.env, exit);
const { memcached, sessionTtl } = config;
const counters = memcached ? new MemcachedCounters(memcached, sessionTtl) : new MemoryCounters(sessionTtl);
const app = buildApp(config, counters);
let status = 0;
let stopping = false;

// Either may come more than once: from Heroku, from a terminal, and from npm, which passes it on.
process.on('SIGTERM', stop).on('SIGINT', stop);
process.on('uncaughtException', (error) => {
  app.log.fatal(error);
  status = 1;
  stop();
});
await app.ready();
app.server.on('error', (error) => exit(`PORT ${config.port} on HOST ${config.host} cannot be used: ${error.message}`));
app.server.listen(config.port, config.host, () => {
  const { address, port } = app.server.address() as AddressInfo;
  const host = /^(0\.0\.0\.0|::)$/.test(address) ? 'localhost' : config.host.replace(/.*:.*/, '[$&]');
  const line = `Hello #N is at http://${host}:${port}/, with the counts in ${counters.place}`;
  if (process.stdout.isTTY) console.log(line);
  else app.log.info(line);
  if (config.onHeroku && !memcached) app.log.warn('COUNTERS=memory: each dyno keeps counts of its own');
});

function stop(): void {
  if (stopping) return;
  stopping = true;
  void stopListening(app.server)
    .then(() => app.close())
    .then(() => process.exit(status));
}

function exit(complaints: string): never {
  console.error(complaints);
  process.exit(1);
}
