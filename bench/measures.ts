import type { ChildProcess } from 'node:child_process';
import {
  find,
  startContender,
  startStores,
  type Answers,
  type Contender,
  type Running,
  type Stores,
} from './contenders.ts';
import { Distance } from './distance.ts';
import { median, percentile, type Figures } from './figures.ts';
import { askFor, askOnce, askTimes, connected, newVisitors, openLoop, Ping, Visitor, type Asked } from './load.ts';
import { usage } from './usage.ts';

const CONNECTIONS = 64;
const AT_ONCE = 200;
export const PERCENTILES = [50, 90, 99];

export interface Plan {
  readonly generations: number;
  /** How many requests each process answers before it is measured, in at most 5 s. */
  readonly warmUp: number;
  readonly rounds: number;
  /** How long each takes, in seconds. */
  readonly round: number;
  /** The round trips to the store, in ms. Over each, a contender is asked for some seconds, so many times a second. */
  readonly distances: readonly number[];
  readonly atDistance: number;
  readonly rate: number;
  /** How many processes answer how many greetings to show what they do to the memory. */
  readonly longRuns: number;
  readonly greetings: number;
  /** How many sessions are started in a memcached with 25 MB. */
  readonly sessions: number;
}

export interface Bench {
  readonly plan: Plan;
  readonly answers: Answers;
  readonly figures: Figures;
  readonly progress: (what: string) => void;
}

/** Starts all anew for each generation, and measures them in short turns, so that a slow minute hits all alike. */
export async function sideBySide(bench: Bench, contenders: readonly Contender[]): Promise<void> {
  const { plan, answers, figures, progress } = bench;
  for (let generation = 1; generation <= plan.generations; generation++) {
    const say = (what: string): void => progress(`generation ${generation} of ${plan.generations}, ${what}`);
    const stores = await startStores();
    const samples: Sample[] = [];
    for (const contender of contenders) {
      say(`starting ${contender.name}`);
      const running = await startContender(contender, stores, answers);
      figures.add(contender.id, {
        start: running.startTime,
        ...(counts(contender) && (await loseCounts(running.port))),
      });
      const visitors = await newVisitors(CONNECTIONS, running.port, contender.answers);
      await askTimes(plan.warmUp, visitors, 5);
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

/** Whether its answers can be compared with how often it was asked. */
function counts({ store, answers }: Contender): boolean {
  return Boolean(store && !answers);
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
    this.#together = this.#together.concat(await askFor(seconds, this.#visitors));
    const [cpuAfter, storeCpuAfter, timeAfter] = now();
    this.#total.cpu += cpuAfter - cpu;
    this.#total.storeCpu += storeCpuAfter - storeCpu;
    this.#total.time += timeAfter - time;
    this.#alone = this.#alone.concat(await askFor(seconds / 4, this.#visitors.slice(0, 1)));
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
      const measure = async (id: string, all: readonly Asked[]): Promise<void> => {
        progress(`generation ${generation} of ${plan.generations}, the store ${roundTrip} ms away: ${id}`);
        for (const proxy of proxies) proxy.lateness.length = 0;
        const latencies = await openLoop(all, plan.rate, plan.atDistance);
        const beyond = latencies.map((latency) => latency - roundTrip);
        figures.add(id, percentiles(`${roundTrip} ms, `, beyond));
        late = late.concat(...proxies.map(({ lateness }) => lateness));
      };
      let late: number[] = [];
      const near = await startStores();
      const proxies = [
        await Distance.to(near.memcached.port, roundTrip),
        await Distance.to(near.redis.port, roundTrip),
      ] as const;
      const far = {
        memcached: { ...near.memcached, port: proxies[0].port },
        redis: { ...near.redis, port: proxies[1].port },
      };
      const pings = Array.from({ length: CONNECTIONS }, () => new Ping(far.memcached.port));
      await connected(pings, () => measure('ping', pings));
      for (const contender of contenders) {
        const { port, stop } = await startContender(contender, far, answers);
        const visitors = await newVisitors(CONNECTIONS, port);
        await askTimes(plan.warmUp / 4, visitors, 5);
        await connected(visitors, () => measure(contender.id, visitors));
        await stop();
      }
      figures.add('proxy', percentiles(`${roundTrip} ms, `, late));
      for (const proxy of proxies) proxy.close();
      await near.stop();
    }
  }
}

/** Measures what many greetings do to the memory, in MB, beside a bare route, and whether they all have been counted. */
export async function overMany({ plan, answers, figures, progress }: Bench): Promise<void> {
  for (let run = 1; run <= plan.longRuns; run++) {
    const end = new Map<string, number>();
    for (const id of ['bare', 'hello-n']) {
      const stores = await startStores();
      const { port, children, stop } = await startContender(find(id), stores, answers);
      const visitors = await newVisitors(CONNECTIONS, port);
      const quarters: number[] = [];
      for (const quarter of [1, 2, 3, 4]) {
        progress(`${plan.greetings} greetings, run ${run} of ${plan.longRuns}, quarter ${quarter}: ${id}`);
        const memory: number[] = [];
        const sampling = setInterval(() => memory.push(usage(children).memory), 200);
        await askTimes(plan.greetings / 4, visitors);
        clearInterval(sampling);
        quarters.push(median([...memory, usage(children).memory]));
      }
      const [, half = 0, , full = 0] = quarters;
      end.set(id, full);
      figures.add(id, {
        half,
        full,
        gained: full - half,
        aboveBare: full - (end.get('bare') ?? 0),
        miscounted: sum(visitors.map(({ asked, count }) => Math.abs(asked - count))),
      });
      await Promise.all([stop(), stores.stop()]);
    }
  }
}

/** Measures how many sessions a memcached with 25 MB holds, and the bytes that each takes. */
export async function fill({ plan, answers, figures, progress }: Bench): Promise<void> {
  progress(`${plan.sessions} sessions in 25 MB`);
  const stores = await startStores(25);
  const { port, stop } = await startContender(find('hello-n'), stores, answers);
  const strangers = Array.from({ length: CONNECTIONS }, () => new Visitor(port));
  for (const stranger of strangers) stranger.keepsCookie = false;
  await askTimes(plan.sessions, strangers);
  const stats = await stores.memcached.stats();
  const [items = 0, bytes = 0] = ['curr_items', 'bytes'].map((name) => Number(stats.get(name)));
  figures.add('hello-n', { bytes: bytes / items, ...(stats.get('evictions') !== '0' && { sessions: items }) });
  await Promise.all([stop(), stores.stop()]);
}

function percentiles(prefix: string, values: readonly number[]): Record<string, number> {
  const sorted = Float64Array.from(values).sort();
  return Object.fromEntries(PERCENTILES.map((percent) => [`${prefix}${percent}th`, percentile(sorted, percent)]));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
