import { Server, type Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

/** How long to go on accepting, an idle connection may wait for a request, and a request for its answer, in milliseconds. */
const ACCEPTING = 500;
const IDLE = 1500;
const BUSY = 4000;

/**
 * Makes closing an app lose no request: a new connection is refused at once, so that it goes to another dyno; what arrives
 * on open ones is answered with `Connection: close`, until none is open. Fastify alone would reset idle connections, whose
 * next request may be on its way, and wait for ever for those that never sent one.
 */
export function drainOnClose(app: FastifyInstance): void {
  const sockets = new Set<Socket>();
  let closing = false;
  let accepting = true;
  app.server.on('connection', (socket: Socket) => {
    accepting = true;
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
    const busy = setTimeout(() => app.server.closeAllConnections(), BUSY);
    const deadline = performance.now() + ACCEPTING;
    setImmediate(stopListening);

    function stopListening(): void {
      // Connections that wait to be accepted, which Node.js does one a turn, would be reset.
      if (accepting && performance.now() < deadline) {
        accepting = false;
        setImmediate(stopListening);
        return;
      }
      // Unlike the http server's own close, this one touches no connection.
      Server.prototype.close.call(app.server, () => {
        clearTimeout(idle);
        clearTimeout(busy);
        next();
      });
    }
  });
}
