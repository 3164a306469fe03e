// Stops a web process and loses as few requests as it can: it accepts the connections that wait in the queue, refuses new ones, so
// that they go to another dyno, and answers the requests that still arrive on open ones.

import { Server, type Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';

//            a signal                    the queue is empty            no connection is open
//   serving -----------> emptying the queue -------------> draining -----------------------> closed
//
// Only answers sent while draining say `Connection: close`. Said earlier, it would make clients connect again, into a queue that is
// reset when listening stops. The counts of lost requests below come from stopping real processes under load.

/**
 * The queue counts as empty after a turn of the event loop that accepts nothing and is no longer than this. During a longer turn, a
 * connection may have joined the queue. With 20 clients, 60 stops reset 421 connections without waiting for such a turn, and none
 * with it. On a machine so busy that no turn is this short, some are still reset.
 */
const QUIET_TURN_MS = 0.5;
/** The longest wait for such a turn: a process that new connections keep busy may have none. */
const MAX_EMPTYING_MS = 1000;
/** How long an idle connection is kept, for a request on its way: 230 restarts lost none, but many without this. */
const CLOSE_IDLE_AFTER_MS = 1500;
/** How long a connection with a request is kept: the visitor may be slow, and the store may take a second. */
const CLOSE_ALL_AFTER_MS = 4000;
/** When a shutdown that hangs is given up. Heroku sends SIGKILL after 30 s. */
const GIVE_UP_MS = MAX_EMPTYING_MS + CLOSE_ALL_AFTER_MS + 1000;

/**
 * Prepares the shutdown of an app that is not ready yet.
 *
 * @returns the shutdown: stops the given listeners, each of which is `app.server` or passes its connections on to it, drains and
 *   closes the app. A second call waits for the same shutdown. Fails if closing the app fails, and after GIVE_UP_MS.
 */
export function prepareShutdown(app: FastifyInstance): (listeners: readonly Server[]) => Promise<void> {
  const connections = new Set<Socket>();
  let accepted = 0;
  let isDraining = false;
  let shutdown: Promise<void> | undefined;

  app.server.on('connection', (socket: Socket) => {
    accepted += 1;
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
  });
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (isDraining) reply.header('connection', 'close');
    done(null, payload);
  });

  async function run(listeners: readonly Server[]): Promise<void> {
    await emptyQueue();
    isDraining = true;
    await drain(listeners);
    await app.close();
  }

  /** Accepts the connections in the system's queue, one in each turn of the event loop. Closing would reset them. */
  async function emptyQueue(): Promise<void> {
    const deadline = performance.now() + MAX_EMPTYING_MS;
    let isQuiet = false;
    // The signal came in the middle of a turn, and the rest of a turn says nothing about the queue.
    await nextTurn();
    while (!isQuiet && performance.now() < deadline) {
      const acceptedBefore = accepted;
      const turnBegan = performance.now();
      await nextTurn();
      isQuiet = accepted === acceptedBefore && performance.now() - turnBegan <= QUIET_TURN_MS;
    }
  }

  /** Stops listening, and waits until no connection is open. */
  async function drain(listeners: readonly Server[]): Promise<void> {
    const idleTimer = setTimeout(() => {
      app.server.closeIdleConnections();
      // To Node.js a connection that never sent a request is not idle.
      for (const socket of connections) if (socket.bytesRead === 0) socket.destroy();
    }, CLOSE_IDLE_AFTER_MS);
    const busyTimer = setTimeout(() => app.server.closeAllConnections(), CLOSE_ALL_AFTER_MS);
    await Promise.all(listeners.map(closeListener));
    clearTimeout(idleTimer);
    clearTimeout(busyTimer);
  }

  return (listeners) => (shutdown ??= Promise.race([run(listeners), giveUp()]));
}

/** Waits for all connections to close. Unlike an http server's own `close`, it closes no idle one: a request may be on its way. */
function closeListener(listener: Server): Promise<unknown> {
  return new Promise((resolve) => Server.prototype.close.call(listener, resolve));
}

async function giveUp(): Promise<never> {
  await sleep(GIVE_UP_MS, undefined, { ref: false });
  throw new Error(`Shutting down takes more than ${GIVE_UP_MS} ms`);
}
