import { test } from 'tap';
import { COLOURS, logTo } from '../../tools/logs.ts';
import { read } from '../support/docs.ts';

await test('each dyno has the colour that it has on the page, as far as the terminal shows colours', async (t) => {
  const lines: string[] = [];
  for (const depth of [24, 8, 4]) logTo((line) => lines.push(line), depth)('local', 'web.7', 'up');
  t.match(lines[0], /^\x1b\[38;2;226;102;10m20\S+ local\[web\.7\]:\x1b\[0m up$/);
  t.match(lines[1], /^\x1b\[38;5;172m20\S+ local\[web\.7\]:\x1b\[0m up$/);
  t.match(lines[2], /^20\S+ local\[web\.7\]: up$/);
  const onPage = [...read('views/hello.html').matchAll(/\.hue-\d \{\s*color: light-dark\((#\w{6})/g)];
  t.strictSame(onPage.map(([, colour]) => colour).slice(0, COLOURS.length), COLOURS);
});
