// What any session is measured against: the same bytes and headers, and nothing behind them.
import fastify from 'fastify';

const { headers, body } = JSON.parse(process.env.ANSWER);
const app = fastify({ keepAliveTimeout: 95_000 });

app.get('/', async (_request, reply) => {
  reply.headers(headers);
  return body;
});

console.log(await app.listen({ port: 0, host: '127.0.0.1' }));
