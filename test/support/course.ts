import { Client } from '../../src/memcached/client.ts';
import { create, increment, PROBE_KEY, remove } from '../../src/memcached/protocol.ts';
import { Network, randomFrom, TAMPERINGS, type Conditions, type Written } from './network.ts';

/** A second of patience, and what the clock of the connection may be late, in milliseconds. */
const IN_TIME = 26;
const BACK = 500;
const LOGIN = { username: 'app', password: 'secret' };

interface Asked {
  readonly kind: 'create' | 'increment' | 'end';
  readonly key: string;
  readonly deadline: number;
  written: Written | undefined;
  settledAt: number | undefined;
}

/**
 * Runs a connection through requests and faults, which the seed decides, on a simulated network.
 *
 * @returns the promises that it broke, each with the time
 */
export async function runCourse(seed: number): Promise<string[]> {
  const random = randomFrom(seed);
  const upTo = (most: number): number => Math.floor(random() * (most + 1));
  const pick = <Value>(values: readonly Value[]): Value => values[upTo(values.length - 1)] as Value;
  const chance = (probability: number): boolean => random() < probability;

  const hasLogin = chance(0.5);
  const network = new Network(randomFrom(seed + 1), hasLogin ? `\0${LOGIN.username}\0${LOGIN.password}` : undefined);
  const { clock } = network;
  const connection = new Client({ host: 'store.example', port: 11_211, ...(hasLogin ? LOGIN : {}) }, network.runtime);
  const broken: string[] = [];
  const isBroken = (promise: string): unknown => broken.push(`${clock.now.toFixed(1)} ms: ${promise}`);

  // What is asked, and what comes of it.
  const ttl = chance(0.2) ? 1 : 60;
  const questions = { create: create(ttl), increment: increment(ttl), end: remove() };
  const asked: Asked[] = [];
  /** By kind and key, oldest first. */
  const unwritten = new Map<string, Asked[]>();
  const keys: string[] = [];
  const last = new Map<string, number>();
  let answeredAt = -Infinity;
  const so = { isHealed: false, hasVanished: false, isClosed: false };

  function ask(kind: Asked['kind'], key: string, patience = chance(0.7) ? 1000 : upTo(300)): void {
    const one: Asked = { kind, key, deadline: clock.now + patience, written: undefined, settledAt: undefined };
    asked.push(one);
    const name = `${kind} ${key}`;
    const others = unwritten.get(name);
    if (others) others.push(one);
    else unwritten.set(name, [one]);
    connection.call(questions[kind], key, one.deadline).then(
      (count) => {
        settle(one);
        answeredAt = clock.now;
        if (!one.written) isBroken(`${kind} was answered and never written`);
        else if (kind !== 'end') checkCount(one, count);
        if (kind === 'create') keys.push(key);
      },
      () => settle(one),
    );
  }

  function settle(one: Asked): void {
    one.settledAt = clock.now;
    if (clock.now > one.deadline + IN_TIME) isBroken(`${one.kind} was settled ${clock.now - one.deadline} ms late`);
  }

  function checkCount({ written, key }: Asked, count: number | undefined): void {
    const counted = network.answers.get(`${written?.link} ${written?.number}`);
    if (count !== counted) isBroken(`the server answered ${counted}, and ${count} was given out`);
    if (count === undefined) return;
    if (count <= (last.get(key) ?? 0)) isBroken(`${count} was given out after ${last.get(key)}`);
    last.set(key, count);
  }

  // What must hold after every event.
  let seen = 0;
  let attempts = 0;
  function check(): void {
    for (const written of network.written.slice(seen)) {
      if (written.key === PROBE_KEY || written.opcode === 0x21 || written.opcode === 0x1c) continue;
      const kind = written.opcode === 0x04 ? 'end' : written.creates ? 'create' : 'increment';
      const candidates =
        unwritten.get(`${kind} ${written.key}`)?.filter(({ settledAt }) => settledAt === undefined) ?? [];
      const one = candidates.shift();
      unwritten.set(`${kind} ${written.key}`, candidates);
      if (one) one.written = written;
      else isBroken(`${kind} was written for nobody`);
      if (!network.proven.has(written.link)) isBroken('a command was written before the store had answered');
    }
    seen = network.written.length;
    for (; attempts < network.connectedAt.length; attempts += 1) {
      const [before = -Infinity, now = 0] = [network.connectedAt[attempts - 1], network.connectedAt[attempts]];
      if (now - before < 100 && answeredAt < before) isBroken(`attempts ${now - before} ms apart`);
      if (so.isClosed) isBroken('an attempt after the close');
    }
    if (network.open.length > 2) isBroken(`${network.open.length} sockets`);
    if (!so.isClosed) for (const link of network.abandoned.splice(0)) isBroken(`it gave up ${link}`);
  }

  // What happens.
  function visit(): void {
    for (let n = chance(0.1) ? 20 : 1 + upTo(2); n > 0; n -= 1) {
      if (keys.length < 3 || chance(0.1)) ask('create', `key ${asked.length}`.padEnd(32, '-'));
      else ask(chance(0.05) ? 'end' : 'increment', pick(keys));
    }
  }

  const faults: (() => void)[] = [
    () => forAWhile({ up: upTo(2000), down: upTo(2000) }),
    () => forAWhile({ up: upTo(500), down: upTo(500) }),
    () => forAWhile({ down: upTo(1200) }),
    () => forAWhile({ piece: pick([1, 7, 20, 30]) }),
    () => forAWhile({ connect: 'refuse' }),
    () => forAWhile({ connect: 'silent' }),
    () => forAWhile({ stalled: 'up' }),
    () => forAWhile({ stalled: 'down' }),
    () => forAWhile({ store: 'stuck' }),
    () => forAWhile({ store: 'full' }),
    () => forAWhile({ login: 'refused' }),
    () => forAWhile({ touch: 'refused' }),
    () => network.open.forEach((socket) => socket.breakAfter(pick(['up', 'down']), upTo(100))),
    () => network.open.forEach((socket) => socket.end()),
    () => network.open.forEach((socket) => socket.break('read ECONNRESET')),
    () => {
      so.hasVanished = true;
      network.open.forEach((socket) => socket.vanish());
    },
    () => network.restart(),
    () => void (network.tampering = pick(TAMPERINGS)),
    () => void (network.tampering = pick(TAMPERINGS)),
  ];

  function forAWhile(conditions: Partial<Conditions>): void {
    const before = { ...network.conditions };
    network.change(conditions);
    const back = Object.fromEntries(Object.keys(conditions).map((name) => [name, before[name as keyof Conditions]]));
    clock.at(clock.now + 1 + upTo(chance(0.3) ? 3000 : 400), () => !so.isHealed && network.change(back));
  }

  const lines: string[] = [];
  const log = (line: string): void => void lines.push(line);
  connection.open({ info: log, warn: log });
  const ends = 300 + upTo(2000);
  const pause = pick([8, 30, 200, 1500]);
  // Some come just when the connection looks at its clock.
  const isRegular = chance(0.3);
  for (let at = upTo(50); at < ends; at += isRegular ? 25 : upTo(2 * pause)) clock.at(at, visit);
  for (let n = upTo(8); n > 0; n -= 1) clock.at(upTo(ends), pick(faults));
  if (chance(0.1)) clock.at(upTo(ends), close);
  await clock.run(ends, check);

  // All is well again, though the server may be far away.
  so.isHealed = true;
  network.heal();
  if (!so.isClosed) {
    const distance = pick([2, 2, 2, 300, 450, 900]);
    network.change({ down: distance });
    // Over a distance, an attempt that hangs may have to be waited for, and then login, probe and answer.
    const back = distance === 2 && !so.hasVanished ? BACK : 2500 + 4 * distance;
    const answeredBefore = answeredAt;
    for (let at = 0; at < back; at += back / 25)
      clock.at(clock.now + at, () => ask('increment', keys.at(-1) ?? 'nobody'.padEnd(32, '-'), 1000));
    await clock.run(clock.now + back, check);
    if (answeredAt === answeredBefore) isBroken(`no answer within ${back} ms after the last fault`);
    checkLog();

    // An idle connection is closed by the server, and the next command notices nothing.
    await clock.run(clock.now + 2500, check);
    const said = lines.length;
    for (const socket of network.open) socket.end();
    network.change({ down: 1 });
    ask('create', 'after a pause'.padEnd(32, '-'), 1000);
    await clock.run(clock.now + 50, check);
    if (!keys.includes('after a pause'.padEnd(32, '-'))) isBroken('a connection closed while idle was noticed');
    if (lines.length > said) isBroken('a connection closed while idle was logged');
    close();
  }
  await clock.run(clock.now + 3000, check);
  if (asked.some(({ settledAt }) => settledAt === undefined)) isBroken('a command was never settled');
  if (clock.pending > 0) isBroken(`${clock.pending} timers were left`);
  return broken;

  function checkLog(): void {
    const changes = lines.filter((line) => /available/.test(line));
    changes.forEach((line, n) => line === changes[n - 1] && isBroken(`the log says twice: ${line}`));
    if (/not available/.test(lines.at(-1) ?? '')) isBroken('the log does not say that it is back');
  }

  function close(): void {
    so.isClosed = true;
    connection.close();
    check();
    if (network.open.length > 0) isBroken('the close left a socket open');
    ask('create', 'after the close'.padEnd(32, '-'));
  }
}
