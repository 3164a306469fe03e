// The same app, with the counts in memjs's own client, as its documentation shows it.
import memjs from 'memjs';
import { buildApp } from '../../dist/app.js';
import { readConfig } from '../../dist/config.js';

const NEVER_CREATE = 0xffffffff;

class PlainCounters {
  #client = memjs.Client.create(process.env.MEMCACHE_SERVERS, { failover: true, timeout: 1, keepAlive: true });
  #ttl;

  constructor(ttl) {
    this.#ttl = ttl;
  }

  open() {}

  async start(draw) {
    await this.#client.increment(draw(), 1, { initial: 1, expires: this.#ttl });
  }

  async increment(key) {
    const counted = this.#client.increment(key, 1, { expires: NEVER_CREATE });
    this.#client.touch(key, this.#ttl).catch(() => undefined);
    return (await counted).value;
  }

  async end(key) {
    await this.#client.delete(key);
  }

  close() {
    this.#client.close();
  }
}

const config = readConfig(process.env);
const app = buildApp(config, new PlainCounters(config.sessionTtl));
console.log(await app.listen({ port: config.port, host: config.host }));
