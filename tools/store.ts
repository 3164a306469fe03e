import type { Log } from './logs.ts';
import { startMemcached } from './memcached.ts';
import { howEnded } from './processes.ts';

type State = 'running' | 'stalled' | 'stopped' | 'restarting';

/** What the store can be told in each state, and the state that follows. After a crash it is `restarting`. */
const ORDERS: Readonly<Record<State, Readonly<Record<string, State>>>> = {
  running: { stall: 'stalled', stop: 'stopped' },
  stalled: { resume: 'running', stop: 'stopped' },
  stopped: { start: 'running' },
  restarting: {},
};

/** Starts a memcached that obeys orders, and starts again after a crash. If that fails, `fail` is called. */
export async function startStore(log: Log, fail: (error: unknown) => void) {
  const memcached = await startMemcached();
  let state: State = 'running';
  watch();
  return { address: memcached.address, change };

  function watch(): void {
    const { child } = memcached;
    child.once('exit', () => {
      if (state === 'stopped') return;
      state = 'restarting';
      log('local', 'memcached', `exited (${howEnded(child)}), restarting in 1 s without its counts`);
      setTimeout(() => void startAgain().catch(fail), 1000);
    });
  }

  async function startAgain(): Promise<void> {
    await memcached.restart();
    state = 'running';
    watch();
  }

  /** Carries out an order, and gives what to say then. If it is not possible now, fails with a sentence for people. */
  async function change(order: string): Promise<string> {
    const next = ORDERS[state][order];
    if (!next) {
      const possible = Object.keys(ORDERS[state]).map((other) => `store ${other}`);
      throw new Error(`The store is ${state}${possible.length > 0 ? `; type ${possible.join(' or ')}` : ''}`);
    }
    if (order === 'start') await startAgain();
    if (order === 'resume') memcached.resume();
    if (order === 'stall') await memcached.stall();
    state = next;
    // Only now, as its end in any other state is a crash.
    if (order === 'stop') await memcached.kill();
    if (state === 'stopped') return 'The store is stopped, and its counts are lost; type store start';
    return state === 'stalled' ? 'The store is stalled; type store resume' : 'The store is running';
  }
}
