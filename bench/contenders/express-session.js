// Express as the public samples use it, but for what they get wrong.
import express from 'express';
import session from 'express-session';
import { openStore } from './store.js';

const app = express();

app.use(
  session({
    secret: 'known to the whole world, as this is a benchmark',
    resave: false,
    saveUninitialized: false,
    store: await openStore(),
  }),
);

app.get('/', (request, response) => {
  request.session.count = (request.session.count ?? 0) + 1;
  response.type('text/plain').send(`Hello #${request.session.count}\n`);
});

app.listen(process.env.PORT, '127.0.0.1');
