// The life of the web process: it reads the environment, builds the app, listens, and stops when it is told to.

import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { buildApp } from './app.ts';
import { readConfig, type Config, type ConfigError } from './config.ts';
import { MemcachedCounters } from './counters/memcached.ts';
import { MemoryCounters } from './counters/memory.ts';
import { plainLog } from './log.ts';
import { prepareShutdown } from './shutdown.ts';

const config = readConfigOrExit();
const { memcached, sessionTtl } = config;
const counters = memcached ? new MemcachedCounters(memcached, sessionTtl) : new MemoryCounters(sessionTtl);
const app = buildApp(config, counters, process.stdout.isTTY ? plainLog(process.stdout) : undefined);
const shutDown = prepareShutdown(app);
const listeners: Server[] = [];

// A second signal changes nothing: npm passes on what the terminal has sent already, and Heroku may repeat it.
process.on('SIGTERM', () => void stop()).on('SIGINT', () => void stop());
process.on('uncaughtException', (error) => {
  app.log.fatal(error, 'Uncaught error; the process exits');
  process.exitCode = 1;
  void stop();
});
await app.ready();
const port = await listen().catch(exitCannotListen);
app.log.info(`Hello #N is at http://${hostForUrl(config.host)}:${port}/, with the counts in ${counters.place}`);
if (config.onHeroku && !memcached) app.log.warn('COUNTERS=memory: each dyno keeps its own counts');

/**
 * Listens on every address of the host: `localhost` is often both ::1 and 127.0.0.1. `app.listen` would start a second http
 * server for the second address, and the shutdown would not know its connections.
 */
async function listen(): Promise<number> {
  const { host } = config;
  let port = config.port;
  let failure: unknown;
  // Without an address Node.js listens on all, IPv6 as well if the machine has it.
  const addresses = host ? (await lookup(host, { all: true })).map(({ address }) => address) : [undefined];
  for (const address of new Set(addresses)) {
    const listener = listeners.length === 0 ? app.server : forwardTo(app.server);
    try {
      await once(listener.listen(port, address), 'listening');
      listeners.push(listener);
      port = (listener.address() as AddressInfo).port;
    } catch (error) {
      // Another program that has the port on one address would get some of the visitors, which is an error, unless the system
      // chose the port. Other failures matter only if no address works: this machine may lack IPv6.
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE' && config.port !== 0) throw error;
      failure = error;
    }
  }
  if (listeners.length === 0) throw failure;
  return port;
}

/** One more listener for a server, with the options that an http server gives its sockets. */
function forwardTo(server: Server): Server {
  return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => server.emit('connection', socket));
}

/** Finishes the requests in progress, then exits. */
async function stop(): Promise<void> {
  try {
    await shutDown(listeners);
  } catch (error) {
    app.log.fatal(error, 'Stopping failed');
    process.exitCode = 1;
  }
  process.exit();
}

function hostForUrl(host = 'localhost'): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}

function readConfigOrExit(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    return exit((error as ConfigError).message);
  }
}

function exitCannotListen({ code, message }: NodeJS.ErrnoException): never {
  const { port, host = '(every address)' } = config;
  const other = port < 65_535 ? port + 1 : port - 1;
  if (code === 'EADDRINUSE') exit(`PORT ${port} is in use; set PORT to another port, such as ${other}`);
  exit(`PORT ${port} on HOST ${host} cannot be used: ${message}`);
}

function exit(complaint: string): never {
  console.error(complaint);
  process.exit(1);
}
