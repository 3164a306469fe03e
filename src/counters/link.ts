import type { Socket } from 'node:net';
import { encode, following, nameOf, ProtocolError, ReplyReader, type Question, type Reply } from './protocol.ts';

/** What a connection needs of the world outside. A test gives it a simulated network, clock and chance. */
export interface World {
  /** Opens a socket to the server. */
  connect(): Pick<Socket, 'on' | 'write' | 'destroy'>;
  /** The time in milliseconds, which never goes back. */
  now(): number;
  /** From 0 to 1. */
  random(): number;
  /** Calls back at the end of this turn of the event loop. */
  soon(action: () => void): void;
  /** Calls back after some milliseconds, when all that has arrived by then has been read. Gives what cancels it. */
  later(milliseconds: number, action: () => void): () => void;
}

/** How long a server may owe a reply, and the network a connection, in milliseconds. */
const PATIENCE = 1000;
/** The server refused the login, or asked for one. */
export class LoginRefused extends Error {}
/** The server or the network did not answer for a second. */
export class Silence extends Error {}

/** A question to the server, and who waits for the answer. */
export interface Command {
  readonly question: Question;
  readonly key: string;
  /** When whoever waits gives up. */
  readonly deadline: number;
  readonly resolve: (count: number | undefined) => void;
  readonly reject: (error: Error) => void;
  writtenAt: number;
  /** Whether it was answered or given up. */
  isSettled: boolean;
}

interface LinkEvents {
  /** A command was answered before it was given up. */
  onAnswer(): void;
  /** The server answers, but not as it should. `kind` is one of a few. */
  onComplaint(kind: string, words: string): void;
  /** Called once. */
  onLoss(reason: Error, unanswered: readonly Command[]): void;
}

/** One TCP connection. When anything goes wrong with it, it is lost for good, and nothing of it is used again. */
export class Link {
  readonly #world: World;
  readonly #events: LinkEvents;
  readonly #socket: ReturnType<World['connect']>;
  readonly #reader = new ReplyReader();
  /** What was written, oldest first. A command that was given up keeps its place, so that its reply is matched. */
  readonly #unanswered: Command[] = [];
  /** How many requests of the oldest command have been answered. */
  #answered = 0;
  #nextRequest = 0;
  #nextReply = 0;
  #connectingSince: number | undefined;
  #isLost = false;
  /** Never settles if no connection is made. */
  readonly opened: Promise<void>;

  constructor(world: World, events: LinkEvents) {
    this.#world = world;
    this.#events = events;
    this.#connectingSince = world.now();
    this.#socket = world.connect();
    this.#socket.on('data', (piece: Buffer) => this.#read(piece));
    this.#socket.on('error', (error) => this.lose(error));
    for (const event of ['end', 'close'])
      this.#socket.on(event, () => this.lose(new Error('it closed the connection')));
    this.opened = new Promise((resolve) => {
      this.#socket.on('connect', () => {
        this.#connectingSince = undefined;
        resolve();
      });
    });
  }

  get isIdle(): boolean {
    return this.#unanswered.length === 0;
  }

  /** Asks one question. */
  ask(question: Question, key: string): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      this.send([{ question, key, deadline: Infinity, resolve, reject, writtenAt: 0, isSettled: false }]);
    });
  }

  /** Writes commands as one packet. */
  send(commands: readonly Command[]): void {
    const packet = encode(commands, this.#nextRequest);
    const now = this.#world.now();
    for (const command of commands) {
      command.writtenAt = now;
      this.#unanswered.push(command);
      this.#nextRequest = following(this.#nextRequest, command.question.opcodes.length);
    }
    this.#socket.write(packet);
  }

  /** For how long the server has owed the oldest reply, or the network the connection, in milliseconds. */
  silentFor(now: number): number {
    return now - (this.#connectingSince ?? this.#unanswered[0]?.writtenAt ?? now);
  }

  loseIfSilent(now: number): void {
    if (this.silentFor(now) < PATIENCE) return;
    const what = this.#connectingSince === undefined ? 'answer' : 'connection';
    this.lose(new Silence(`no ${what} within a second`));
  }

  giveUpLate(now: number): void {
    for (const command of this.#unanswered) giveUpIfLate(command, now, 'no answer in time');
  }

  lose(reason: Error): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#socket.destroy();
    this.#events.onLoss(reason, this.#unanswered);
  }

  #read(piece: Buffer): void {
    try {
      this.#reader.read(piece, (reply) => this.#match(reply));
    } catch (error) {
      this.lose(error as Error);
    }
  }

  /** Replies come in the order of the requests. After one that does not fit, no other can be trusted. */
  #match(reply: Reply): void {
    const command = this.#unanswered[0];
    const due = command?.question.opcodes[this.#answered];
    if (!command || reply.opcode !== due || reply.number !== this.#nextReply) {
      const what = due === undefined ? 'nothing' : `${nameOf(due)} number ${this.#nextReply}`;
      throw new ProtocolError(
        `a reply to ${nameOf(reply.opcode)} number ${reply.number}, when ${what} was to be answered`,
      );
    }
    if (reply.outcome === 'login refused') throw new LoginRefused(reply.text);
    this.#nextReply = following(this.#nextReply, 1);
    this.#answered += 1;
    if (this.#answered === command.question.opcodes.length) {
      this.#answered = 0;
      this.#unanswered.shift();
    }
    this.#settle(command, reply);
  }

  #settle(command: Command, reply: Reply): void {
    if (reply.outcome === 'refused') {
      const name = nameOf(reply.opcode);
      const refusal = `refuses ${name}: ${reply.text}`;
      this.#events.onComplaint(name === 'TOUCH' ? name : `status ${Math.min(reply.status, 0xff)}`, refusal);
      return fail(command, new Error(`it ${refusal}`));
    }
    // The reply to TOUCH comes after that to its INCREMENT, for nobody.
    if (command.isSettled) return;
    command.isSettled = true;
    command.resolve(reply.outcome === 'ok' ? reply.count : undefined);
    this.#events.onAnswer();
  }
}

/** Fails a command unless it is settled. */
export function fail(command: Command, reason: Error): void {
  if (command.isSettled) return;
  command.isSettled = true;
  command.reject(reason);
}

/** Fails a command whose deadline has come, and tells whether it is settled. */
export function giveUpIfLate(command: Command, now: number, reason: string): boolean {
  if (command.deadline <= now && !command.isSettled) fail(command, new Error(reason));
  return command.isSettled;
}
