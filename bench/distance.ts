import { once } from 'node:events';
import { createConnection, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** A proxy that puts a port of 127.0.0.1 at a distance. It never sleeps, as timers would be late by up to a millisecond. */
export class Distance {
  readonly #server: Server;
  /** What is under way, by where it goes to. All waits equally long, so one queue keeps the order of each direction. */
  readonly #queues = new Map<Socket, { due: number; bytes: Buffer }[]>();
  #isOpen = true;

  /** @param roundTrip in milliseconds, half of it each way */
  static async to(port: number, roundTrip: number): Promise<Distance> {
    const distance = new Distance(port, roundTrip / 2);
    await once(distance.#server, 'listening');
    return distance;
  }

  private constructor(port: number, oneWay: number) {
    this.#server = createServer({ noDelay: true }, (near) => {
      const far = createConnection({ port, host: '127.0.0.1', noDelay: true });
      this.#pass(near, far, oneWay);
      this.#pass(far, near, oneWay);
    }).listen(0, '127.0.0.1');
    this.#turn();
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  #pass(from: Socket, to: Socket, oneWay: number): void {
    const queue: { due: number; bytes: Buffer }[] = [];
    this.#queues.set(to, queue);
    from.on('data', (bytes) => queue.push({ due: performance.now() + oneWay, bytes }));
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#queues.delete(to);
      to.destroy();
    });
  }

  #turn(): void {
    for (const [to, queue] of this.#queues) {
      for (let first = queue[0]; first && first.due <= performance.now(); first = queue[0]) {
        to.write(first.bytes);
        queue.shift();
      }
    }
    if (this.#isOpen) setImmediate(() => this.#turn());
  }

  close(): void {
    this.#isOpen = false;
    this.#server.close();
    for (const to of this.#queues.keys()) to.destroy();
  }
}
