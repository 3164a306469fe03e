import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { buildApp } from './app.js';
import { ConfigError, readConfig, type Config } from './config.js';
import { MemcachedCounters } from './counters/memcached.js';
import { MemoryCounters } from './counters/memory.js';

const config = configOrExit();
const counters = config.memcached
  ? new MemcachedCounters(config.memcached.servers, config.memcached.credentials, config.sessionTtl)
  : new MemoryCounters(config.sessionTtl);
const app = buildApp(config, counters);
let status = 0;
let stopping = false;

// Either may come more than once: from Heroku, from a terminal, and from npm, which passes it on.
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
process.on('uncaughtException', (error) => {
  app.log.fatal(error);
  status = 1;
  stop();
});

await app.ready();
app.server.listen(config.port, config.host);
try {
  await once(app.server, 'listening');
} catch (error) {
  exit(`PORT ${config.port} on HOST ${config.host} cannot be listened to: ${String(error)}`);
}
announce();

function configOrExit(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    if (error instanceof ConfigError) exit(error.message);
    throw error;
  }
}

function announce(): void {
  const { address, port } = app.server.address() as AddressInfo;
  const host = address === '0.0.0.0' || address === '::' ? 'localhost' : config.host.replace(/.*:.*/, '[$&]');
  const line = `Hello #N is at http://${host}:${port}/, with the counts in ${counters.place}`;
  if (process.stdout.isTTY) console.log(line);
  else app.log.info(line);
  if (config.onHeroku && !config.memcached) app.log.warn('COUNTERS=memory: each dyno keeps counts of its own');
}

function stop(): void {
  if (stopping) return;
  stopping = true;
  void app.close().then(() => process.exit(status));
}

function exit(complaint: string): never {
  console.error(complaint);
  process.exit(1);
}
