// Loaded before hello-n by --import: at its end, writes to descriptor 3 by how many ms its event loop was delayed.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { writeSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** How often the delay is measured, in ms. What is measured includes it. */
const RESOLUTION = 10;
const delay = monitorEventLoopDelay({ resolution: RESOLUTION });
const after = (percent) => delay.percentile(percent) / 1e6 - RESOLUTION;

// The start itself is one long delay.
subscribe('http.server.request.start', function begin() {
  unsubscribe('http.server.request.start', begin);
  delay.enable();
});
process.once('exit', () => writeSync(3, JSON.stringify({ '50th': after(50), '99th': after(99), longest: after(100) })));
