// Express as the public samples use it, but for what they get wrong.
import connectMemjs from 'connect-memjs';
import express from 'express';
import session from 'express-session';

const MemjsStore = connectMemjs(session);
const app = express();

app.use(
  session({
    secret: 'known to the whole world, as this is a benchmark',
    resave: false,
    saveUninitialized: false,
    store: new MemjsStore({ servers: [process.env.MEMCACHE_SERVERS] }),
  }),
);

app.get('/', (request, response) => {
  request.session.count = (request.session.count ?? 0) + 1;
  response.type('text/plain').send(`Hello #${request.session.count}\n`);
});

const server = app.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
