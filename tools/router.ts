import { Agent, createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { createProxyServer } from 'httpxy';

/** A router like Heroku's: each request goes to one of the dynos, picked at random. */
export interface Router {
  readonly port: number;
  /** Routes to a dyno from now on. It listens on the loopback address. */
  add(name: string, port: number): void;
  /** Routes no further request to a dyno. Those under way are answered. */
  remove(name: string): void;
  /** Stops listening, and waits until no connection is open, 5 s at most. */
  close(): Promise<void>;
}

export interface RouterOptions {
  /** 0, the default, takes any free port. */
  port?: number;
  host?: string;
  /** Says, as Heroku's router does, whether the visitor came over https; unless given it says nothing, which means http. */
  https?: boolean;
  /** Hears a line for each request. */
  log?: (line: string) => void;
}

/** How long a dyno may take for an answer, in milliseconds, as on Heroku. */
const PATIENCE = 30_000;
/** The dynos keep an idle connection for 95 s; whoever closes it first loses a request. */
const IDLE = 90_000;
/** What a visitor cannot say for the router, and what is about the visitor's own connection. */
const NOT_PASSED_ON = /^(x-forwarded-.*|connection|keep-alive|upgrade|expect|transfer-encoding)$/;

/** Starts a router without dynos: it answers 503 until it has one. Fails if the port cannot be listened to. */
export async function startRouter({
  port = 0,
  host = '127.0.0.1',
  https = false,
  log = () => undefined,
}: RouterOptions = {}): Promise<Router> {
  const dynos = new Map<string, number>();
  const agent = new Agent({ keepAlive: true, timeout: IDLE });
  const proxy = createProxyServer({ agent, proxyTimeout: PATIENCE });
  proxy.on('proxyReq', (request, { url = '/' }) => {
    // The target as it came, also an absolute URL.
    request.path = url;
  });
  proxy.on('proxyRes', ({ headers }) => {
    delete headers.connection;
    delete headers['keep-alive'];
  });
  const server = createServer({ keepAliveTimeout: IDLE }, (request, response) => {
    void route(request, response);
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(port, host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    add: (name, dynoPort) => dynos.set(name, dynoPort),
    remove: (name) => dynos.delete(name),
    close: async () => {
      const deadline = setTimeout(() => server.closeAllConnections(), 5000);
      const closed = once(server, 'close');
      server.close();
      // Browsers open some in advance. To Node.js they are not idle.
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
    rewriteHeaders(request, body.length);
    // httpxy adds some for each dyno that is asked.
    request.setMaxListeners(0);
    response.setMaxListeners(0);
    const dyno = await ask([...dynos], request, response, body);
    const service = Math.round(performance.now() - start);
    log(
      `at=${dyno ? 'info' : 'error'} method=${request.method} path=${JSON.stringify(request.url)} ` +
        `dyno=${dyno ?? ''} service=${service}ms status=${response.statusCode}`,
    );
  }

  function rewriteHeaders(request: IncomingMessage, bodyLength: number): void {
    const kept = Object.entries(request.headers).filter(([name]) => !NOT_PASSED_ON.test(name));
    request.headers = Object.fromEntries(kept);
    if (https) request.headers['x-forwarded-proto'] = 'https';
    if (bodyLength > 0) request.headers['content-length'] = String(bodyLength);
  }

  /** Gives the name of the dyno that answered; undefined if none did, and the router had to. */
  async function ask(
    untried: [name: string, port: number][],
    request: IncomingMessage,
    response: ServerResponse,
    body: Buffer,
  ): Promise<string | undefined> {
    const [dyno] = untried.splice(Math.floor(Math.random() * untried.length), 1);
    if (!dyno) return refuse(response, 'No web dyno is running');
    const [name, dynoPort] = dyno;
    try {
      const target = { host: '127.0.0.1', port: dynoPort };
      await proxy.web(request, response, { target, buffer: Readable.from([body]) });
      return name;
    } catch (error) {
      // Nothing was sent, so that any request may be sent to another.
      if (isRefusal(error)) return ask(untried, request, response, body);
      return refuse(response, `${name} gave no answer: ${String(error)}`);
    }
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED';
}

function refuse(response: ServerResponse, line: string): undefined {
  if (response.headersSent) response.destroy();
  else response.writeHead(503, { 'content-type': 'text/plain; charset=utf-8' }).end(`${line}\n`);
}
