import { Client } from '../../src/memcached/client.ts';
import { PROBE_KEY } from '../../src/memcached/protocol.ts';
import { Checker } from './checker.ts';
import { randomFrom } from './clock.ts';
import { TAMPERINGS, type Tampering } from './fake-server.ts';
import { Network, SERVER, type Reach } from './network.ts';
import type { SimulatedSocket } from './socket.ts';

const LOGIN = { username: 'app', password: 'secret' };
/** Within this time after the last fault, calls are answered while visitors ask. */
const BACK_MS = 500;
/** Within this time there is a connection, though nobody asks. */
const BACK_UNASKED_MS = 6000;

/**
 * Leads a client through calls and faults, which the seed decides, on a simulated network.
 *
 * @returns the violations of what `checker.ts` lists, each with its time
 */
export async function simulate(seed: number): Promise<string[]> {
  const simulation = new Simulation(seed);
  try {
    await simulation.run();
  } catch (error) {
    simulation.checker.violate(12, (error as Error).stack ?? '');
  }
  return simulation.checker.violations;
}

class Simulation {
  readonly checker: Checker;
  readonly #random: () => number;
  readonly #network: Network;
  /** How often all has been well again, which ends all faults: what was to end one later does nothing then. */
  #recoveries = 0;
  /** Whether a server has vanished since then. The client has to find that out by a second of silence. */
  #hasVanished = false;
  #isQuiet = false;
  #keysDrawn = 0;

  constructor(seed: number) {
    this.#random = randomFrom(seed);
    const hasLogin = this.#chance(0.5);
    const addresses = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].slice(0, this.#pick([0, 0, 1, 2, 2, 3]));
    const login = hasLogin ? `\0${LOGIN.username}\0${LOGIN.password}` : undefined;
    this.#network = new Network(randomFrom(seed + 1), login, addresses);
    this.#network.joins = this.#chance(0.5);
    const client = new Client({ ...SERVER, ...(hasLogin ? LOGIN : {}) }, this.#network.runtime);
    this.checker = new Checker(this.#network, client, hasLogin, this.#chance(0.2) ? 1 : 60);
    // Some stores do not know TOUCH, and a new add-on refuses the login at first.
    if (this.#chance(0.1)) this.#network.server.conditions.touch = this.#pick(['refused', 'hangs up', 'silent']);
    if (hasLogin && this.#chance(0.2)) this.#forAWhile(this.#network.server.conditions, { login: 'refused' });
  }

  async run(): Promise<void> {
    this.checker.open();
    for (let rounds = this.#pick([1, 1, 1, 2]); rounds > 0 && this.checker.violations.length === 0; rounds -= 1) {
      await this.#sufferFaults();
      if (this.checker.isClosed) this.checker.open();
      const wasQuiet = this.#chance(0.25);
      if (wasQuiet) await this.#sufferInQuiet();
      await this.#recover(wasQuiet);
    }
    await this.#beDroppedWhileIdle();
    this.checker.close();
    this.checker.ask('create', 'after the close'.padEnd(32, '-'));
    await this.#pass(3000);
    this.checker.finish();
  }

  // What happens, in random order.

  /** Visitors come, faults come and go, and perhaps the client is closed and opened. */
  async #sufferFaults(): Promise<void> {
    const ends = 300 + this.#upTo(2000);
    const pause = this.#pick([15, 40, 200, 1500]);
    // Some come just when the client looks at its clock.
    const isRegular = this.#chance(0.3);
    for (let at = this.#upTo(50); at < ends; at += isRegular ? 25 : this.#upTo(2 * pause))
      this.#in(at, () => this.#visit());
    for (let n = this.#upTo(8); n > 0; n -= 1) this.#in(this.#upTo(ends), this.#pick(this.#faults));
    for (let n = this.#chance(0.15) ? 1 + this.#upTo(3) : 0; n > 0; n -= 1)
      this.#in(this.#upTo(ends), () => this.#openOrClose());
    await this.#pass(ends);
  }

  /** Nobody asks for a while, and faults last. */
  async #sufferInQuiet(): Promise<void> {
    this.#isQuiet = true;
    for (let n = 1 + this.#upTo(2); n > 0; n -= 1) this.#in(this.#upTo(1000), this.#pick(this.#faults));
    await this.#pass((this.#chance(0.15) ? 100_000 : 20_000) + this.#upTo(5000));
    this.#isQuiet = false;
  }

  #visit(): void {
    const { keys } = this.checker;
    for (let n = this.#chance(0.05) ? 20 : 1 + this.#upTo(2); n > 0; n -= 1) {
      const patience = this.#chance(0.7) ? 1000 : this.#upTo(300);
      if (keys.length < 3 || this.#chance(0.1)) this.checker.ask('create', this.#newKey(), patience);
      else this.checker.ask(this.#chance(0.05) ? 'end' : 'increment', this.#pick(keys), patience);
    }
  }

  /** Opens what is closed, closes what is open, or does so twice. */
  #openOrClose(): void {
    if (this.checker.isClosed || this.#chance(0.2)) this.checker.open();
    else this.checker.close();
    if (this.#chance(0.3)) this.checker.open();
  }

  /** What may happen at any time. Of those listed, each is as likely. */
  get #faults(): (() => void)[] {
    const { conditions, addresses, server } = this.#network;
    const tamper = (): void => void (server.tampering = this.#pick(Object.keys(TAMPERINGS) as Tampering[]));
    return [
      () => this.#forAWhile(conditions, { up: this.#upTo(2000), down: this.#upTo(2000) }),
      () => this.#forAWhile(conditions, { up: this.#upTo(500), down: this.#upTo(500) }),
      () => this.#forAWhile(conditions, { down: this.#upTo(1200) }),
      () => this.#forAWhile(conditions, { piece: this.#pick([1, 7, 20, 30]) }),
      () => this.#forAWhile(conditions, { stalled: this.#pick(['up', 'down']) }),
      () => this.#forAWhile(conditions, { dns: this.#pick(['fails', 'hangs']) }),
      () => this.#forAWhile(this.#anAddress(), { connect: this.#pick(['refuse', 'silent']) }),
      () => this.#forAWhile(this.#anAddress(), { slow: this.#upTo(1500) }),
      () => addresses.forEach((reach) => this.#forAWhile(reach, { connect: this.#pick(['refuse', 'silent']) })),
      () => this.#forAWhile(server.conditions, { store: this.#pick(['stuck', 'stuck', 'full', 'busy']) }),
      () => this.#forAWhile(server.conditions, { login: this.#pick(['refused', 'revoked', 'unknown', 'incomplete']) }),
      () => this.#forAWhile(server.conditions, { isLoginRequired: true }),
      () => this.#forAWhile(server.conditions, { touch: this.#pick(['refused', 'hangs up', 'silent']) }),
      () => this.#forAWhile(server.conditions, { speaks: this.#pick(['text', 'too many', 'tls']) }),
      () => this.#each((socket) => socket.breakAfter(this.#pick(['up', 'down']), this.#upTo(100))),
      () => this.#each((socket) => socket.hangUp()),
      () => this.#each((socket) => socket.break('read ECONNRESET')),
      () => {
        this.#hasVanished = true;
        this.#each((socket) => socket.vanish());
      },
      () => this.#network.restart(),
      () => this.#spoil(this.#chance(0.3) ? PROBE_KEY : this.#pick([PROBE_KEY, ...this.checker.keys])),
      tamper,
      tamper,
    ];
  }

  /** Does something to each socket that is open. */
  #each(befall: (socket: SimulatedSocket) => void): void {
    this.#network.open.forEach(befall);
  }

  #anAddress(): Reach {
    return this.#pick([...this.#network.addresses.values()]);
  }

  /** Changes conditions until a random time or, if nobody asks, until all is well again. */
  #forAWhile<Conditions extends object>(conditions: Conditions, changes: Partial<Conditions>): void {
    const before = { ...conditions };
    const recoveries = this.#recoveries;
    Object.assign(conditions, changes);
    this.#network.reconsider();
    if (this.#isQuiet) return;
    const names = Object.keys(changes) as (keyof Conditions)[];
    this.#in(1 + this.#upTo(this.#chance(0.3) ? 3000 : 400), () => {
      if (this.#recoveries > recoveries) return;
      for (const name of names) conditions[name] = before[name];
      this.#network.reconsider();
    });
  }

  /** Somebody else stores what is no count, or what soon will be none. */
  #spoil(key: string): void {
    this.checker.spoilt.add(key);
    const value = this.#pick(['text' as const, 2n ** 53n - 3n, 2n ** 64n - 2n]);
    this.#network.server.items.set(key, { value, expires: Infinity });
  }

  // All is well again.

  async #recover(wasQuiet: boolean): Promise<void> {
    const { checker } = this;
    this.#recoveries += 1;
    this.#network.heal();
    const distance = this.#pick([2, 2, 2, 300, 450, 900]);
    this.#network.conditions.down = distance;
    const isFar = distance > 2;
    if (this.#chance(wasQuiet ? 0.8 : 0.2) && !isFar && !this.#hasVanished) await this.#recoverInQuiet(wasQuiet);
    // Over a distance, an attempt that hangs may have to be waited for, and then login, probe and response.
    const back = isFar || this.#hasVanished ? 2500 + 4 * distance : BACK_MS;
    this.#hasVanished = false;
    const before = checker.servedAt;
    const key = checker.keys.findLast((each) => !checker.spoilt.has(each)) ?? this.#newKey();
    for (let at = 0; at < back; at += back / 25) this.#in(at, () => checker.ask('increment', key));
    await this.#pass(back);
    if (checker.servedAt === before) checker.violate(9, `no response within ${back} ms after the last fault`);
    await this.#pass(1500);
  }

  /** In the end there is a connection although nobody asks. A visitor does not have to wait for that. */
  async #recoverInQuiet(wasQuiet: boolean): Promise<void> {
    const { checker } = this;
    const isVisited = this.#chance(0.5);
    // An attempt that began while visitors asked may still be silent. Until it has timed out, calls may fail.
    const soonest = wasQuiet ? 0 : 1100;
    await this.#pass(isVisited ? soonest + this.#upTo(3000) : BACK_UNASKED_MS);
    while (checker.hasJustTried) await this.#pass(50);
    if (!isVisited && checker.isConnecting) checker.violate(9, `no connection within ${BACK_UNASKED_MS} ms`);
    const served = checker.keys.length;
    checker.ask('create', this.#newKey());
    await this.#pass(300);
    if (checker.keys.length === served) checker.violate(9, 'the first visitor was not served');
  }

  /** A connection that the server closes while it is idle is replaced for the next call, which notices nothing. */
  async #beDroppedWhileIdle(): Promise<void> {
    const { checker } = this;
    this.#network.conditions.down = 1;
    await this.#pass(2500);
    const [lines, served] = [checker.log.lines.length, checker.keys.length];
    const isBefore = this.#chance(0.5);
    if (isBefore) checker.ask('create', this.#newKey());
    this.#each((socket) => socket.hearEnd());
    if (!isBefore) checker.ask('create', this.#newKey());
    await this.#pass(50);
    if (checker.keys.length === served) checker.violate(9, 'a connection closed while idle was noticed');
    if (checker.log.lines.length > lines) checker.violate(10, 'a connection closed while idle was logged');
  }

  #pass(milliseconds: number): Promise<void> {
    return this.#network.clock.run(milliseconds, () => this.checker.check());
  }

  #in(milliseconds: number, action: () => void): void {
    this.#network.clock.at(this.#network.clock.now + milliseconds, action);
  }

  #newKey(): string {
    return `key ${(this.#keysDrawn += 1)}`.padEnd(32, '-');
  }

  /** A whole number from 0 to `most`. */
  #upTo(most: number): number {
    return Math.floor(this.#random() * (most + 1));
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #pick<Value>(values: readonly Value[]): Value {
    return values[this.#upTo(values.length - 1)] as Value;
  }
}
