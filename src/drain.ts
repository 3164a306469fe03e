import { Server, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';

// All in milliseconds.
/** How long connections that wait to be accepted are accepted. */
const LATE = 1000;
/** In a turn of the event loop that takes no longer, hardly any connection arrives. */
const SHORT = 0.5;
/** How long an idle connection is kept for a request that is on its way, and a busy one for its answer. */
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
 * Stops listening; to be called before an app is closed. The system resets connections that still wait to be accepted, and
 * Node.js accepts one in each turn of the event loop. So this waits for a turn that brings none, and is too short for one
 * to arrive meanwhile.
 */
export async function stopListening(server: Server): Promise<void> {
  let accepted = 0;
  server.on('connection', () => (accepted += 1));
  const began = performance.now();
  // A signal comes in the middle of a turn, whose rest may accept nothing.
  await turn();
  for (let isQuiet = false; !isQuiet && performance.now() - began < LATE;) {
    const [acceptedBefore, turnBegan] = [accepted, performance.now()];
    await turn();
    isQuiet = accepted === acceptedBefore && performance.now() - turnBegan <= SHORT;
  }
  Server.prototype.close.call(server);
}
