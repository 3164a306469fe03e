// What any session is measured against: Fastify with the same bytes and headers, and nothing behind them.
import fastify from 'fastify';

const { headers, body } = JSON.parse(process.env.ANSWER);
// A page is sent from a buffer, a line of text as a string.
const answer = headers['content-type'].startsWith('text/html') ? Buffer.from(body) : body;
const app = fastify({ keepAliveTimeout: 95_000 });

app.get('/', async (_request, reply) => {
  reply.headers(headers);
  return answer;
});

await app.listen({ port: process.env.PORT, host: '127.0.0.1' });
