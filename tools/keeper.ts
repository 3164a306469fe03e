import { createInterface } from 'node:readline';

// Outlives the process that started it for a moment. Each line on its standard input lists all the children of that
// process; when the input ends, so has the process, and what it left behind is ended here.
let children = '';
createInterface({ input: process.stdin })
  .on('line', (line) => {
    children = line;
  })
  .on('close', () => {
    for (const pid of children.split(' ').filter(Boolean)) end(Number(pid));
  });

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It had ended by itself.
  }
}
