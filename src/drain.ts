import { Server, type Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

/** How long an idle connection may wait for its next request, and a request for its answer, in milliseconds. */
const IDLE = 1500;
const BUSY = 4000;

/**
 * Fastify plugin: closing the app loses no request. A new connection is refused at once, so that it goes to another dyno;
 * what arrives on open ones is answered with `Connection: close`, until none is open. Fastify alone would reset idle
 * connections, whose next request may be on its way, and keep open those that never sent one.
 */
export const drain = Object.assign(
  (app: FastifyInstance, _options: object, done: () => void): void => {
    const sockets = new Set<Socket>();
    let closing = false;
    app.server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    });
    app.addHook('onSend', (_request, reply, payload, next) => {
      if (closing) reply.header('connection', 'close');
      next(null, payload);
    });
    app.addHook('preClose', (next) => {
      closing = true;
      const idle = setTimeout(() => {
        app.server.closeIdleConnections();
        // To Node.js a connection that never sent a request is not idle.
        for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
      }, IDLE);
      const busy = setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, BUSY);
      // Unlike the http server's own close, this stops listening and touches no connection.
      Server.prototype.close.call(app.server, () => {
        clearTimeout(idle);
        clearTimeout(busy);
        next();
      });
    });
    done();
  },
  { [Symbol.for('skip-override')]: true, [Symbol.for('fastify.display-name')]: 'drain' },
);
