import { Server, type Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

/** How long a new connection may be let in, an idle one wait for its next request, and a request for its answer, in ms. */
const LATE = 1000;
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
    const busy = setTimeout(() => app.server.closeAllConnections(), BUSY);
    // Unlike the http server's own close, this one touches no connection.
    Server.prototype.close.call(app.server, () => {
      clearTimeout(idle);
      clearTimeout(busy);
      next();
    });
  });
}

/**
 * Stops listening, to be called before an app is closed. Node.js accepts one connection a turn of the event loop, and
 * those that still wait for it would be reset, so it waits for a turn that brings none, and is too short to let any come.
 */
export function stopListening(server: Server): Promise<void> {
  const deadline = performance.now() + LATE;
  let accepted = true;
  server.on('connection', () => (accepted = true));
  return new Promise((resolve) => {
    function turn(last: number): void {
      const now = performance.now();
      if (now < deadline && (accepted || now - last > 1)) {
        accepted = false;
        setImmediate(turn, now);
        return;
      }
      Server.prototype.close.call(server);
      resolve();
    }
    setImmediate(turn, 0);
  });
}
