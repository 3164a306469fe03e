import { once } from 'node:events';
import { Agent, createServer, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, RequestOptions, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

export interface RouterOptions {
  /** 0, the default, takes any free port. */
  port?: number;
  /** Tells the dynos that visitors come over https. By default the router tells them nothing, which means http. */
  https?: boolean;
  /** Is called with a line for each request, the dyno that answered (undefined: none), and the status. */
  log?: (line: string, dyno: string | undefined, status: number) => void;
}

export type Router = Awaited<ReturnType<typeof startRouter>>;

/** How long a dyno may take to answer, in milliseconds, as on Heroku. */
const ANSWER_TIMEOUT = 30_000;
/** The dynos close an idle connection after 95 s. The side that sends requests has to close it first, or may lose one. */
const IDLE_TIMEOUT = 90_000;
const CLOSE_TIMEOUT = 5000;
/** Headers that concern one connection only, and those that no visitor may set. */
const NOT_PASSED_ON = /^(x-forwarded-.*|connection|keep-alive|upgrade|expect|transfer-encoding)$/;

/**
 * Starts a router like Heroku's, which sends each request to a dyno picked at random. Without dynos it answers 503. Fails
 * if it cannot listen to the port.
 */
export async function startRouter({ port = 0, https = false, log }: RouterOptions = {}) {
  const dynos = new Map<string, number>();
  const agent = new Agent({ keepAlive: true, timeout: IDLE_TIMEOUT });
  const server = createServer({ keepAliveTimeout: IDLE_TIMEOUT }, (...exchange) => void route(...exchange));
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket.on('close', () => sockets.delete(socket))));
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    /** Starts to route to a dyno, which listens on a port of 127.0.0.1. */
    add: (name: string, dynoPort: number): void => void dynos.set(name, dynoPort),
    /** Routes no further request to a dyno. It still answers those under way. */
    remove: (name: string) => dynos.delete(name),
    /** Stops listening, and waits until no connection is open, at most 5 s. */
    close: async () => {
      const deadline = setTimeout(() => server.closeAllConnections(), CLOSE_TIMEOUT);
      const closed = once(server, 'close');
      server.close();
      // Browsers open some in advance. Node.js does not count them as idle.
      for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
      await closed;
      clearTimeout(deadline);
      agent.destroy();
    },
  };

  async function route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const start = performance.now();
    const body = await buffer(request).catch(() => undefined);
    if (!body) return;
    const { method, url: path } = request;
    const headers = passedOn(request.headers);
    if (https) headers['x-forwarded-proto'] = 'https';
    if (body.length > 0) headers['content-length'] = String(body.length);
    const visit = new AbortController();
    response.on('close', () => visit.abort());
    const options = { agent, timeout: ANSWER_TIMEOUT, signal: visit.signal, method, path, headers };
    const dyno = await askAny([...dynos], options, body, response);
    const service = `service=${Math.round(performance.now() - start)}ms status=${response.statusCode}`;
    const target = `method=${method} path=${JSON.stringify(path)}`;
    log?.(`at=${dyno ? 'info' : 'error'} ${target} dyno=${dyno ?? ''} ${service}`, dyno, response.statusCode);
  }
}

/** Gives the name of the dyno that answered, or undefined if the router itself answered. */
async function askAny(
  untried: [name: string, port: number][],
  options: RequestOptions,
  body: Buffer,
  response: ServerResponse,
): Promise<string | undefined> {
  const [[name, port] = []] = untried.splice(Math.floor(Math.random() * untried.length), 1);
  if (!name) return refuse(response, 'No web dyno is running');
  try {
    await ask({ ...options, host: '127.0.0.1', port }, body, response);
    return name;
  } catch (error) {
    if (isBeforeSending(error)) return askAny(untried, options, body, response);
    return refuse(response, `${name} did not answer: ${String(error)}`);
  }
}

/** Sends a request to a dyno, and its answer to the visitor. */
function ask(options: RequestOptions, body: Buffer, response: ServerResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest(options);
    asked.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 0, passedOn(answer.headers));
      pipeline(answer, response).then(resolve, reject);
    });
    asked.on('timeout', () => asked.destroy(new Error(`no response within ${ANSWER_TIMEOUT / 1000} s`)));
    asked.on('error', reject);
    asked.end(body);
  });
}

function passedOn(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !NOT_PASSED_ON.test(name)));
}

/** Whether the connection failed before anything was sent on it. Then another dyno may get the request. */
function isBeforeSending(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'connect';
}

function refuse(response: ServerResponse, line: string): undefined {
  if (response.headersSent) response.destroy();
  else response.writeHead(503, { 'content-type': 'text/plain; charset=utf-8' }).end(`${line}\n`);
}
