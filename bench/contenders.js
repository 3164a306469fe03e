import { fileURLToPath } from 'node:url';
import { startPhp, versions as php } from './contenders/php.js';
import { startNode, until } from './processes.js';
import { greet, newVisitors } from './visitors.js';

const app = fileURLToPath(new URL('../dist/server.js', import.meta.url));
const rival = (name) => fileURLToPath(new URL(`contenders/${name}.js`, import.meta.url));
/** What Node.js puts in by itself, and what a new visitor gets. */
const NOT_COPIED = ['date', 'connection', 'keep-alive', 'content-length', 'set-cookie'];

export const OURS = 'hello-n';
export const BARE = 'bare Fastify, no session';
export const PLAIN = 'hello-n with memjs used plainly';
export const FASTIFY_SESSION = '@fastify/session';
export const EXPRESS_SESSION = 'express-session';
export const PHP = `PHP ${php?.PHP.split('.', 2).join('.') ?? ''} with nginx`.replace('  ', ' ');

/** Starts hello-n as on Heroku. A first visitor sees that it has reached memcached, so there is one session already. */
export async function startOurs({ address }) {
  const ours = await startNode(app, { DYNO: 'web.1', MEMCACHE_SERVERS: address });
  await until('hello-n greets', async () => (await greet(ours.port)).status === 200);
  return ours;
}

/** Starts the route without a session, which answers as hello-n just did. */
export async function startBare({ port }) {
  const [cookie] = await newVisitors(port, 1);
  const { headers } = await greet(port, cookie);
  const copied = Object.fromEntries(Object.entries(headers).filter(([name]) => !NOT_COPIED.includes(name)));
  const bare = await startNode(rival('bare'), { ANSWER: JSON.stringify({ headers: copied, body: 'Hello #1234\n' }) });
  const answer = await greet(bare.port);
  for (const name of new Set([...Object.keys(headers), ...Object.keys(answer.headers)])) {
    if (headers[name] !== answer.headers[name] && !['date', 'content-length'].includes(name)) {
      throw new Error(`the bare route sends another ${name}`);
    }
  }
  return bare;
}

/** Starts all that are compared, each with 64 visitors. PHP is left out where it is not installed. */
export async function startContenders(memcached) {
  const env = { DYNO: 'web.1', MEMCACHE_SERVERS: memcached.address };
  const ours = await startOurs(memcached);
  const started = {
    [BARE]: await startBare(ours),
    [OURS]: ours,
    [PLAIN]: await startNode(rival('plain-memjs'), env),
    [FASTIFY_SESSION]: await startNode(rival('fastify-session'), env),
    [EXPRESS_SESSION]: await startNode(rival('express-session'), env),
    ...(php && { [PHP]: await startPhp(memcached) }),
  };
  const contenders = [];
  for (const [name, contender] of Object.entries(started)) {
    contenders.push({ ...contender, name, cookies: name === BARE ? [] : await newVisitors(contender.port, 64) });
  }
  return contenders;
}
