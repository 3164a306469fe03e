import type { AddressInfo } from 'node:net';
import { buildApp } from './app.ts';
import { readConfig, type Config, type ConfigError } from './config.ts';
import { MemcachedCounters } from './counters/memcached.ts';
import { MemoryCounters } from './counters/memory.ts';
import { stopListening } from './drain.ts';

/** When a stop that hangs is given up, in milliseconds: after the last connection must be closed. */
const GIVE_UP = 6000;

const config = readConfigOrExit();
const { memcached, sessionTtl } = config;
const counters = memcached ? new MemcachedCounters(memcached, sessionTtl) : new MemoryCounters(sessionTtl);
const app = buildApp(config, counters, process.stdout.isTTY ? { write: writeForPeople } : undefined);
let status = 0;

// Either may come more than once: from Heroku, from a terminal, and from npm, which passes it on.
process.on('SIGTERM', () => void stop()).on('SIGINT', () => void stop());
process.on('uncaughtException', (error) => {
  app.log.fatal(error, 'An error that nobody caught ends this process');
  status = 1;
  void stop();
});
await app.ready();
app.server.on('error', (error: NodeJS.ErrnoException) => {
  const { port, host = 'every address' } = config;
  if (error.code === 'EADDRINUSE') exit(`PORT ${port} is in use; PORT=${port + 1} npm start takes another`);
  exit(`PORT ${port} on HOST ${host} cannot be used: ${error.message}`);
});
// Not by app.listen: for localhost it starts a second server, which knows nothing of the drain. Without a host Node.js
// listens on every address, IPv6 as well if the machine has it.
app.server.listen(config.port, config.host, () => {
  const { port } = app.server.address() as AddressInfo;
  app.log.info(`Hello #N is at http://${hostForUrl(config)}:${port}/, with the counts in ${counters.place}`);
  if (config.onHeroku && !memcached) app.log.warn('COUNTERS=memory: each dyno keeps counts of its own');
});

/** Answers what is under way, and exits. A second call waits for the same end. */
async function stop(): Promise<void> {
  setTimeout(() => {
    app.log.fatal('Stopping takes too long, so this process ends at once');
    process.exit(1);
  }, GIVE_UP);
  try {
    await stopListening(app.server);
    await app.close();
  } catch (error) {
    app.log.fatal(error, 'Stopping failed');
    status = 1;
  }
  process.exit(status);
}

function hostForUrl({ host = 'localhost' }: Config): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}

/** Writes a line of the log without its JSON: what happened, with which request, and the stack of an error. */
function writeForPeople(line: string): void {
  const { msg, req, res, err } = JSON.parse(line) as LogLine;
  const request = req && `${req.method} ${req.url}`;
  console.log([msg, request, res?.statusCode, err?.stack].filter((part) => part !== undefined).join(' '));
}

interface LogLine {
  readonly msg: string;
  readonly req?: { readonly method: string; readonly url: string };
  readonly res?: { readonly statusCode: number };
  readonly err?: { readonly stack: string };
}

function readConfigOrExit(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    return exit((error as ConfigError).message);
  }
}

function exit(complaint: string): never {
  console.error(complaint);
  process.exit(1);
}
