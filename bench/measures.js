import { BARE, OURS, PLAIN, startBare, startContenders, startOurs } from './contenders.js';
import { load, loadExactly } from './load.js';
import { idOf, startMemcached } from './memcached.js';
import { processorTime, resident } from './processes.js';
import { greet, newVisitors } from './visitors.js';

const CONNECTIONS = 64;
const AT_ONCE = 200;

/** Runs a load once: per greeting the CPU time of the contender and of memcached in microseconds; latencies in ms. */
async function run({ port, children, cookies }, memcached, options) {
  const before = [children, memcached.children].map(processorTime);
  const { requests, seconds, ...latency } = await load({ port, cookies, connections: CONNECTIONS, ...options });
  const after = [children, memcached.children].map(processorTime);
  const [cpu, storeCpu] = after.map((time, index) => ((time - before[index]) * 1e6) / requests);
  return { cpu, storeCpu, rate: requests / seconds, requests, ...latency };
}

/** Runs each of them once a round, so that a slow minute hits all alike, after a round that does not count. */
async function interleave(subjects, { rounds, seconds, warmUp }, progress) {
  const results = new Map(subjects.map(({ name }) => [name, []]));
  for (const { name, contender, memcached, options } of subjects) {
    progress(`warming up: ${name}`);
    await run(contender, memcached, { ...options, seconds: warmUp });
  }
  for (let round = 1; round <= rounds; round++) {
    // Each round begins with another, so that none always follows the same one.
    const first = round % subjects.length;
    for (const subject of [...subjects.slice(first), ...subjects.slice(0, first)]) {
      const { name, contender, memcached, options } = subject;
      progress(`round ${round} of ${rounds}: ${name}`);
      results.get(name).push(await run(contender, memcached, { ...options, seconds }));
    }
  }
  return results;
}

/** All contenders side by side: counts lost, cost under load, and latency over one connection. */
export async function compare(plan, progress) {
  const memcached = await startMemcached();
  const contenders = await startContenders(memcached);
  const lost = new Map();
  for (const contender of contenders.filter(({ name }) => name !== BARE)) {
    progress(`${AT_ONCE} requests at once in one session: ${contender.name}`);
    lost.set(contender.name, await loseCounts(contender));
  }
  const subjects = contenders.map((contender) => ({ name: contender.name, contender, memcached }));
  const cost = await interleave(subjects, plan.compare, progress);
  const pair = subjects.filter(({ name }) => name === OURS || name === PLAIN);
  const alone = pair.map((subject) => ({ ...subject, options: { connections: 1 } }));
  const latency = await interleave(alone, plan.latency, (text) => progress(`one connection, ${text}`));
  await Promise.all([...contenders, memcached].map(({ stop }) => stop()));
  return { lost, cost, latency };
}

/** Asks many times at once in one session, and then how far its count got. */
async function loseCounts({ port }) {
  const { cookie, count: first } = await greet(port);
  const began = performance.now();
  const answers = await Promise.allSettled(Array.from({ length: AT_ONCE }, () => greet(port, cookie)));
  const seconds = (performance.now() - began) / 1000;
  const { count: last } = await greet(port, cookie);
  const counts = answers.map(({ value }) => value?.count).filter(Number.isInteger);
  return {
    lost: first + AT_ONCE + 1 - last,
    repeated: counts.length - new Set(counts).size,
    unanswered: AT_ONCE - counts.length,
    seconds,
  };
}

/** What a greeting costs by the number of connections. */
export async function growByConnections(plan, progress) {
  const memcached = await startMemcached();
  const ours = await startOurs(memcached);
  const contender = { ...ours, cookies: await newVisitors(ours.port, CONNECTIONS) };
  const subjects = plan.connections.map((connections) => {
    return { name: connections, contender, memcached, options: { connections } };
  });
  const results = await interleave(subjects, plan.growth, (text) => progress(`by connections, ${text}`));
  await Promise.all([ours.stop(), memcached.stop()]);
  return results;
}

/** What a greeting costs by the number of sessions that live in memcached, when each greeting is of a random one. */
export async function growBySessions(plan, progress) {
  const subjects = [];
  for (const sessions of plan.sessions) {
    progress(`filling in ${sessions} sessions`);
    const memcached = await startMemcached(256);
    await memcached.fill(sessions);
    const ours = await startOurs(memcached);
    subjects.push({ name: sessions, contender: ours, memcached, options: { sessions } });
  }
  const results = await interleave(subjects, plan.growth, (text) => progress(`by live sessions, ${text}`));
  for (const { name: sessions, contender, memcached } of subjects) {
    const { cookie } = await greet(contender.port, `sid=${idOf(1)}`);
    const { curr_items: items } = await memcached.stats();
    if (cookie || items !== sessions + 1) throw new Error(`${items} sessions live where ${sessions} were filled in`);
    await Promise.all([contender.stop(), memcached.stop()]);
  }
  return results;
}

/** What sessions take in memcached: those that so many visitors start, and how many 25 MB hold. */
export async function store({ visitors }, progress) {
  progress(`${visitors} new sessions`);
  const memcached = await startMemcached();
  const ours = await startOurs(memcached);
  await loadExactly(visitors, { port: ours.port, connections: CONNECTIONS, cookies: [] });
  const [{ bytes, curr_items: items }, slabs] = [await memcached.stats(), await memcached.stats('slabs')];
  const [slabClass] = Object.entries(slabs)
    .filter(([name]) => name.endsWith(':used_chunks'))
    .sort(([, one], [, other]) => other - one)
    .map(([name]) => name.split(':')[0]);
  await Promise.all([ours.stop(), memcached.stop()]);
  progress('filling 25 MB');
  const small = await startMemcached(25);
  await small.fill(300_000);
  const { curr_items: fitting, evictions } = await small.stats();
  if (evictions === 0) throw new Error('25 MB were not filled');
  await small.stop();
  return { item: bytes / items, chunk: slabs[`${slabClass}:chunk_size`], fitting };
}

/** Memory held in each quarter of many greetings, sampled, as it goes up and down; for hello-n also all that was counted. */
export async function lastLong({ greetings }, progress) {
  const memcached = await startMemcached();
  const ours = await startOurs(memcached);
  const bare = await startBare(ours);
  const memory = {};
  let refused = 0;
  for (const [name, { port, children }] of Object.entries({ [OURS]: ours, [BARE]: bare })) {
    const cookies = name === OURS ? await newVisitors(port, CONNECTIONS) : [];
    memory[name] = [[resident(children)]];
    for (let quarter = 1; quarter <= 4; quarter++) {
      progress(`memory, quarter ${quarter} of ${greetings} greetings: ${name}`);
      const samples = [];
      const sampling = setInterval(() => samples.push(resident(children)), 200);
      const unserved = await loadExactly(greetings / 4, { port, connections: CONNECTIONS, cookies });
      clearInterval(sampling);
      refused += unserved;
      memory[name].push([...samples, resident(children)]);
    }
    if (name === OURS) memory.counted = await sumOfCounts(port, cookies);
  }
  await Promise.all([ours, bare, memcached].map(({ stop }) => stop()));
  // Each visitor asked once more at the start and at the end.
  return { ...memory, sent: greetings + 2 * CONNECTIONS, refused };
}

async function sumOfCounts(port, cookies) {
  let sum = 0;
  for (const cookie of cookies) sum += (await greet(port, cookie)).count;
  return sum;
}

/** How long it takes from the start of the process until it listens, in milliseconds. */
export async function startTimes({ starts }, progress) {
  const memcached = await startMemcached();
  const times = [];
  for (let number = 1; number <= starts; number++) {
    progress(`start ${number} of ${starts}`);
    const ours = await startOurs(memcached);
    times.push(ours.startTime);
    await ours.stop();
  }
  await memcached.stop();
  return times;
}
