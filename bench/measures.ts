import type { ChildProcess } from 'node:child_process';
import {
  find,
  startContender,
  startDistantStores,
  startStores,
  type Answers,
  type Contender,
  type Running,
  type Stores,
} from './contenders.ts';
import { median, percentile, type Figures } from './figures.ts';
import { askOnce, closedLoop, connected, newVisitors, openLoop, Ping, Visitor, type Connection } from './load.ts';
import { usage } from './usage.ts';

const CONNECTIONS = 64;
const AT_ONCE = 200;
export const PERCENTILES = [50, 90, 99];
/** Requests a second to contenders with a store at a distance. */
export const RATE = 400;

/** How much is measured. */
export const FULL = {
  generations: 5,
  /** How many requests each process answers before it is measured, in at most 5 s. */
  warmUp: 40_000,
  rounds: 4,
  /** How long each takes, in seconds. */
  round: 0.9,
  /** The round trips to the store, in ms. Over each, a contender is measured for some seconds. */
  distances: [1, 10],
  atDistance: 4,
  /** How many processes answer how many greetings to show what they do to the memory. */
  longRuns: 2,
  greetings: 1_000_000,
  /** How many sessions are started in one process with 25 MB of memcached, to show what they leave behind. */
  sessions: 300_000,
};
export type Plan = Readonly<typeof FULL>;
const little = { generations: 2, warmUp: 2_000, rounds: 2, distances: [10], atDistance: 1, longRuns: 1 };
export const QUICK: Plan = { ...FULL, ...little, greetings: 8_000, sessions: 10_000 };

export interface Bench {
  readonly plan: Plan;
  readonly answers: Answers;
  readonly figures: Figures;
  readonly progress: (what: string) => void;
}

/** Starts all contenders for each generation, and measures them in short turns, so that a slow minute hits all alike. */
export async function sideBySide(bench: Bench, contenders: readonly Contender[]): Promise<void> {
  const { plan, answers, figures, progress } = bench;
  for (let generation = 1; generation <= plan.generations; generation++) {
    const say = (what: string): void => progress(`generation ${generation} of ${plan.generations}, ${what}`);
    const stores = await startStores();
    const samples: Sample[] = [];
    for (const contender of contenders) {
      say(`starting ${contender.name}`);
      const running = await startContender(contender, stores, answers);
      figures.add(contender.id, { start: running.startTime });
      // Of others, the answers cannot be compared with how often they were asked.
      if (contender.store && !contender.answers) figures.add(contender.id, await loseCounts(running.port));
      const visitors = await newVisitors(CONNECTIONS, running.port, contender.answers);
      await closedLoop(visitors, plan.warmUp, 5);
      samples.push(new Sample(contender, running, visitors, stores));
    }
    for (let round = 1; round <= plan.rounds; round++) {
      // Each round begins with another, so that nobody always follows the same one.
      samples.push(...samples.splice(0, Math.ceil(samples.length / plan.rounds)));
      for (const sample of samples) {
        say(`round ${round} of ${plan.rounds}: ${sample.contender.name}`);
        await sample.measure(plan.round);
      }
    }
    for (const { contender, running, figures: measured } of samples) {
      figures.add(contender.id, measured);
      await running.stop();
    }
    await stores.stop();
  }
}

/** A process of a contender while it is measured. */
class Sample {
  readonly contender: Contender;
  readonly running: Running;
  readonly #visitors: readonly Visitor[];
  readonly #store: readonly ChildProcess[];
  #together: number[] = [];
  #alone: number[] = [];
  /** In seconds. */
  readonly #total = { cpu: 0, storeCpu: 0, time: 0 };

  constructor(contender: Contender, running: Running, visitors: readonly Visitor[], stores: Stores) {
    this.contender = contender;
    this.running = running;
    this.#visitors = visitors;
    this.#store = contender.store ? [stores[contender.store].child] : [];
  }

  async measure(seconds: number): Promise<void> {
    const now = () => [usage(this.running.children).cpu, usage(this.#store).cpu, performance.now() / 1000] as const;
    const [cpu, storeCpu, time] = now();
    this.#together = this.#together.concat(await closedLoop(this.#visitors, Infinity, seconds));
    const [cpuAfter, storeCpuAfter, timeAfter] = now();
    this.#total.cpu += cpuAfter - cpu;
    this.#total.storeCpu += storeCpuAfter - storeCpu;
    this.#total.time += timeAfter - time;
    this.#alone = this.#alone.concat(await closedLoop(this.#visitors.slice(0, 1), Infinity, seconds / 4));
  }

  /** CPU times are in microseconds a request, latencies in milliseconds. */
  get figures() {
    const { length } = this.#together;
    const { cpu, storeCpu, time } = this.#total;
    return {
      cpu: (cpu * 1e6) / length,
      storeCpu: (storeCpu * 1e6) / length,
      rate: length / time,
      ...percentiles('', this.#together),
      alone: median(this.#alone),
      failed: sum(this.#visitors.map(({ failed }) => failed)),
    };
  }
}

/** Asks many times at once in one session, and once more to see how far its count got. */
async function loseCounts(port: number): Promise<{ lost: number; repeated: number }> {
  const [first] = await newVisitors(1, port);
  const visitors = Array.from({ length: AT_ONCE }, () => new Visitor(port, 'text', first?.cookie));
  await askOnce(visitors);
  const last = new Visitor(port, 'text', first?.cookie);
  await askOnce([last]);
  // The first was greeted with 1.
  return { lost: AT_ONCE + 2 - last.count, repeated: AT_ONCE - new Set(visitors.map(({ count }) => count)).size };
}

/** Measures with the store at a distance: what latency goes beyond a round trip. `ping` is the store asked for nothing. */
export async function atDistance(
  { plan, answers, figures, progress }: Bench,
  contenders: readonly Contender[],
): Promise<void> {
  for (let generation = 1; generation <= plan.generations; generation++) {
    for (const roundTrip of plan.distances) {
      const measure = async (id: string, all: readonly Connection[]): Promise<void> => {
        progress(`generation ${generation} of ${plan.generations}, the store ${roundTrip} ms away: ${id}`);
        const latencies = await openLoop(all, RATE, plan.atDistance);
        const beyond = latencies.map((latency) => latency - roundTrip);
        figures.add(id, percentiles(`${roundTrip} ms, `, beyond));
      };
      const stores = await startDistantStores(roundTrip);
      const pings = Array.from({ length: CONNECTIONS }, () => new Ping(stores.memcached.port));
      await connected(pings, () => measure('ping', pings));
      for (const contender of contenders) {
        const { port, stop } = await startContender(contender, stores, answers);
        const visitors = await newVisitors(CONNECTIONS, port);
        await closedLoop(visitors, plan.warmUp / 4, 5);
        await connected(visitors, () => measure(contender.id, visitors));
        await stop();
      }
      await stores.stop();
    }
  }
}

/** Measures what many greetings do to the memory, in MB, beside a bare route, and whether they all have been counted. */
export async function overMany({ plan, answers, figures, progress }: Bench): Promise<void> {
  for (let run = 1; run <= plan.longRuns; run++) {
    for (const id of ['bare', 'hello-n']) {
      const stores = await startStores();
      const { port, children, stop } = await startContender(find(id), stores, answers);
      const visitors = await newVisitors(CONNECTIONS, port);
      const quarters: number[] = [];
      for (const quarter of [1, 2, 3, 4]) {
        progress(`${plan.greetings} greetings, run ${run} of ${plan.longRuns}, quarter ${quarter}: ${id}`);
        quarters.push(await memoryDuring(children, () => closedLoop(visitors, plan.greetings / 4)));
      }
      const [, half = NaN, , full = NaN] = quarters;
      figures.add(id, { half, full, miscounted: sum(visitors.map(({ asked, count }) => Math.abs(asked - count))) });
      await Promise.all([stop(), stores.stop()]);
    }
  }
}

/** The median of the memory that processes take while something is done, in MB. */
export async function memoryDuring(children: readonly ChildProcess[], act: () => Promise<unknown>): Promise<number> {
  const samples: number[] = [];
  const sampling = setInterval(() => samples.push(usage(children).memory), 200);
  await act();
  clearInterval(sampling);
  return median([...samples, usage(children).memory]);
}

function percentiles(prefix: string, values: readonly number[]): Record<string, number> {
  const sorted = Float64Array.from(values).sort();
  return Object.fromEntries(PERCENTILES.map((percent) => [`${prefix}${percent}th`, percentile(sorted, percent)]));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
