// A count in memjs's own client, as its documentation shows it, with the two commands that hello-n sends.
import { randomUUID } from 'node:crypto';
import cookie from '@fastify/cookie';
import fastify from 'fastify';
import memjs from 'memjs';

const TTL = 86_400;
const client = memjs.Client.create(process.env.MEMCACHE_SERVERS, { failover: true, timeout: 1, keepAlive: true });
const app = fastify();

app.register(cookie);
app.get('/', async (request, reply) => {
  const known = request.cookies.sid;
  const id = known ?? randomUUID();
  if (known) client.touch(id, TTL).catch(() => undefined);
  else reply.setCookie('sid', id, { path: '/', httpOnly: true, sameSite: 'lax' });
  const { value } = await client.increment(id, 1, { initial: 1, expires: TTL });
  reply.type('text/plain; charset=utf-8');
  return `Hello #${value}\n`;
});

await app.listen({ port: process.env.PORT, host: '127.0.0.1' });
