import dns from 'node:dns';
import { connect, type LookupFunction } from 'node:net';
import { CountersUnavailable, type Log } from './counters.ts';
import { fail, giveUpIfLate, Link, LoginRefused, Silence, type Command, type World } from './link.ts';
import { login, NOBODY, probe, type Question } from './protocol.ts';

/** A Memcached server, and its login (SASL PLAIN) if it has one. */
export interface MemcachedServer {
  readonly host: string;
  readonly port: number;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

// All in milliseconds.
/** How long an attempt to connect may be silent before another one is made beside it. */
const DOUBT = 200;
/** From the start of one attempt to the start of the next, give or take half at random. */
const PAUSE = 200;
/** How often deadlines are checked. */
const TICK = 25;
/** For how long a refused login may be that of a new add-on, whose login takes some minutes to work. */
const WARM_UP = 5 * 60_000;
/** How long the log does not repeat itself. */
const MINUTE = 60_000;

const PROBE = probe();
const LOGIN_ADVICE =
  'Check its username and password. The login of a new add-on takes up to three minutes to work. MemCachier switches off ' +
  'a free cache that was not used for 30 days, until "heroku addons:open memcachier" turns it on again';

type State =
  | { readonly name: 'closed' }
  | { readonly name: 'connecting' }
  | { readonly name: 'ready'; readonly link: Link }
  | { readonly name: 'failing'; readonly since: number; readonly failure: CountersUnavailable };

/**
 * The connection to one Memcached server. It makes a new link whenever the link is lost, and writes no command twice.
 *
 *     closed ----1----> connecting ----2----> ready
 *       ^                 |    ^              | | |
 *       |                 3    +------4-------+ | |
 *       |                 v                     | |
 *       |              failing <-------5--------+ |
 *       |                 +-----2----> ready      |
 *       +-------------------6---------------------+
 *
 * 1. It is opened, or a command comes.
 * 2. An attempt succeeds: it is connected, logged in, and has got an answer about a key.
 * 3. An attempt fails.
 * 4. The link is lost, and another attempt is due.
 * 5. The link is lost because the server was silent, or no attempt is due yet.
 * 6. The link is lost while nobody waits for an answer.
 *
 * - `closed`: there is no link, and nobody needs one.
 * - `connecting`: attempts are made, and commands wait.
 * - `ready`: commands are written, those of one turn of the event loop together.
 * - `failing`: attempts are made, and commands fail at once, with the reason of the last failure.
 *
 * An attempt that is silent may only be slow, so it gets its full second. Its packets may also be lost, so another attempt
 * is made beside it, and takes turns with later ones. There are never more than two.
 */
export class Connection {
  readonly name: string;
  readonly #server: MemcachedServer;
  readonly #world: World;
  #log: Log | undefined;
  #state: State = { name: 'closed' };
  /** Links that are being made, oldest first, while connecting or failing. */
  #attempts: Link[] = [];
  #nextAttemptAt = -Infinity;
  /** Commands that have not been written. */
  #waiting: Command[] = [];
  #cancelTick: (() => void) | undefined;
  #isLossLogged = false;
  /** Until when the log does not repeat a complaint, by its kind. */
  readonly #quietUntil = new Map<string, number>();
  #loginRefusedSince: number | undefined;

  constructor(server: MemcachedServer, world: World = worldOf(server)) {
    this.name = `Memcached at ${server.host}:${server.port}`;
    this.#server = server;
    this.#world = world;
  }

  /** For how long commands have failed at once, in milliseconds; 0 if they do not. */
  get failingFor(): number {
    return this.#state.name === 'failing' ? this.#world.now() - this.#state.since : 0;
  }

  /** Starts to connect. `log` hears when the server is lost and when it serves again. */
  open(log: Log): void {
    this.#log = log;
    this.#connect();
  }

  /** Fails all commands, those of later too, and closes all sockets. */
  close(): void {
    const links = this.#state.name === 'ready' ? [this.#state.link] : this.#attempts.splice(0);
    const reason = new Error('this process is stopping');
    this.#log = undefined;
    this.#fail(reason);
    for (const link of links) link.lose(reason);
    this.#cancelTick?.();
  }

  /**
   * Asks a question about a key. Gives the count of an INCREMENT, or undefined if there is no such key. Fails with
   * `CountersUnavailable` by the deadline, or up to 25 ms later.
   */
  ask(question: Question, key: string, deadline: number): Promise<number | undefined> {
    if (this.#state.name === 'failing') return Promise.reject(this.#state.failure);
    return new Promise((resolve, rejectWith) => {
      const reject = (reason: Error): void => rejectWith(this.#unavailable(reason));
      this.#waiting.push({ question, key, deadline, resolve, reject, writtenAt: 0, isSettled: false });
      if (this.#state.name === 'closed') this.#connect();
      if (this.#state.name === 'ready' && this.#waiting.length === 1) this.#world.soon(() => this.#write());
      this.#keepTicking();
    });
  }

  #write(): void {
    if (this.#state.name !== 'ready') return;
    this.#giveUpWaiting(this.#world.now());
    if (this.#waiting.length > 0) this.#state.link.send(this.#waiting.splice(0));
  }

  #connect(): void {
    this.#state = { name: 'connecting' };
    this.#attemptIfDue(this.#world.now());
    this.#keepTicking();
  }

  #attemptIfDue(now: number): void {
    const newest = this.#attempts.at(-1);
    if (now < this.#nextAttemptAt || (newest && newest.silentFor(now) < DOUBT)) return;
    this.#nextAttemptAt = now + PAUSE * (0.5 + this.#world.random());
    if (this.#attempts.length === 2) this.#attempts.pop()?.lose(new Error('another attempt takes its place'));
    void this.#attempt();
  }

  async #attempt(): Promise<void> {
    const link: Link = new Link(this.#world, {
      onAnswer: () => this.#served(link),
      onComplaint: (kind, words) => this.#complain(kind, words),
      onLoss: (reason, unanswered) => this.#lose(link, reason, unanswered),
    });
    this.#attempts.push(link);
    const { username, password } = this.#server;
    try {
      await link.opened;
      if (username !== undefined && password !== undefined) await link.ask(login(username, password), '');
      // Something in front of the store may answer all else by itself.
      await link.ask(PROBE, NOBODY);
    } catch (reason) {
      link.lose(reason as Error);
    }
    if (!this.#attempts.includes(link)) return;
    const others = this.#attempts.splice(0).filter((other) => other !== link);
    this.#state = { name: 'ready', link };
    for (const other of others) other.lose(new Error('another attempt was faster'));
    this.#loginRefusedSince = undefined;
    this.#write();
  }

  #lose(link: Link, reason: Error, unanswered: readonly Command[]): void {
    for (const command of unanswered) fail(command, reason);
    if (this.#attempts.includes(link)) {
      this.#attempts = this.#attempts.filter((other) => other !== link);
      return this.#fail(reason);
    }
    if (this.#state.name !== 'ready' || this.#state.link !== link) return;
    if (unanswered.length > 0) {
      this.#logLoss(reason);
      if (reason instanceof Silence || this.#world.now() < this.#nextAttemptAt) return this.#fail(reason);
    } else if (this.#waiting.length === 0) {
      this.#state = { name: 'closed' };
      return;
    }
    this.#connect();
  }

  #fail(reason: Error): void {
    const now = this.#world.now();
    const since = this.#state.name === 'failing' ? this.#state.since : now;
    this.#state = { name: 'failing', since, failure: this.#unavailable(reason) };
    this.#logLoss(reason);
    for (const command of this.#waiting.splice(0)) fail(command, reason);
    this.#keepTicking();
  }

  #served(link: Link): void {
    // An answer to the probe serves nobody.
    if (this.#state.name !== 'ready' || this.#state.link !== link) return;
    this.#nextAttemptAt = -Infinity;
    if (!this.#isLossLogged) return;
    this.#isLossLogged = false;
    this.#quietUntil.delete('login');
    this.#log?.info(`${this.name} is available again`);
  }

  #logLoss(reason: Error): void {
    if (reason instanceof LoginRefused)
      this.#complain('login', `refuses the login: ${reason.message}. ${LOGIN_ADVICE}`);
    else if (!this.#isLossLogged) this.#log?.warn(`${this.name} is not available: ${wordsOf(reason)}`);
    this.#isLossLogged = true;
  }

  /** Logs what a server does again and again, without repeating it within a minute, or at all if it is about TOUCH. */
  #complain(kind: string, words: string): void {
    const now = this.#world.now();
    if (now < (this.#quietUntil.get(kind) ?? now)) return;
    this.#quietUntil.set(kind, kind === 'TOUCH' ? Infinity : now + MINUTE);
    this.#log?.warn(`${this.name} ${words}`);
  }

  #unavailable(reason: Error): CountersUnavailable {
    const cause = new Error(`${this.name}: ${wordsOf(reason)}`, { cause: reason });
    if (!(reason instanceof LoginRefused)) return new CountersUnavailable('unavailable', cause);
    this.#loginRefusedSince ??= this.#world.now();
    const isNew = this.#world.now() - this.#loginRefusedSince < WARM_UP;
    return new CountersUnavailable(isNew ? 'warming up' : 'login refused', cause);
  }

  #keepTicking(): void {
    this.#cancelTick ??= this.#world.later(TICK, () => {
      this.#cancelTick = undefined;
      this.#tick();
    });
  }

  #tick(): void {
    const now = this.#world.now();
    for (const link of this.#state.name === 'ready' ? [this.#state.link] : [...this.#attempts]) link.loseIfSilent(now);
    if (this.#state.name === 'ready') this.#state.link.giveUpLate(now);
    this.#giveUpWaiting(now);
    if (this.#state.name === 'connecting' || this.#state.name === 'failing') this.#attemptIfDue(now);
    else if (this.#waiting.length === 0 && (this.#state.name === 'closed' || this.#state.link.isIdle)) return;
    this.#keepTicking();
  }

  #giveUpWaiting(now: number): void {
    this.#waiting = this.#waiting.filter((command) => !giveUpIfLate(command, now, 'no connection in time'));
  }
}

/** The reason of a failure in words, also where a host has several addresses and none can be reached. */
function wordsOf(reason: Error): string {
  return reason instanceof AggregateError ? (reason.errors as Error[]).map(wordsOf).join(', ') : reason.message;
}

/** The real world of a server. */
function worldOf({ host, port }: MemcachedServer): World {
  let lookUp: Promise<dns.LookupAddress[]> | undefined;
  // A look-up cannot be cancelled, so attempts share the one that is under way.
  const lookup: LookupFunction = (name, _options, callback) => {
    lookUp ??= dns.promises.lookup(name, { all: true }).finally(() => (lookUp = undefined));
    lookUp.then(
      (addresses) => callback(null, addresses),
      (error: unknown) => callback(error as NodeJS.ErrnoException, []),
    );
  };
  return {
    connect: () =>
      connect({
        host,
        port,
        lookup,
        autoSelectFamily: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: 30_000,
      }),
    now: () => performance.now(),
    random: Math.random,
    soon: setImmediate,
    later(milliseconds, action) {
      let immediate: NodeJS.Immediate | undefined;
      const timer = setTimeout(() => (immediate = setImmediate(action)), milliseconds);
      return () => {
        clearTimeout(timer);
        clearImmediate(immediate);
      };
    },
  };
}
