// @fastify/session as its documentation shows it. It takes a store made for express-session.
import cookie from '@fastify/cookie';
import session from '@fastify/session';
import fastify from 'fastify';
import { openStore } from './store.js';

const app = fastify();

app.register(cookie);
app.register(session, {
  secret: 'known to the whole world, as this is a benchmark',
  cookie: { secure: false },
  store: await openStore(),
});

app.get('/', async (request, reply) => {
  request.session.count = (request.session.count ?? 0) + 1;
  reply.type('text/plain; charset=utf-8');
  return `Hello #${request.session.count}\n`;
});

await app.listen({ port: process.env.PORT, host: '127.0.0.1' });
