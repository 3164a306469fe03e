import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { UnavailableCode as Trouble } from './counters/counters.ts';

/** What does not change while a process runs. */
export interface Place {
  readonly dyno: string;
  readonly store: 'memory' | 'memcached';
  readonly onHeroku: boolean;
}

/** How many pages' bytes are kept for reuse: 1 MB. */
const MOST_KEPT = 64;

const read = (file: string): string => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
const { repository: ownRepository } = JSON.parse(read('app.json')) as { repository: string };
// Comment lines, indentation and line breaks are for those who read the file: without them it fits into 16 KB.
const html = read('views/hello.html')
  .replace(/^\s*(?:(?:\/\/|\/\*|<!--).*\s*)*/gm, '')
  .replace(/(?<=<style>)[^]*(?=<\/style>)/, (style) => style.replace(/\s*([{}:;,])\s*/g, '$1'))
  .replace(/(?<=<script>)[^]*(?=<\/script>)/, (script) => script.replace(/\n(?=\W)|(?<=\W)\n/g, ''));

/** The `Content-Security-Policy` that lets exactly this page's style and script run. */
export const policy =
  `default-src 'none'; style-src ${hashOf('style')}; script-src ${hashOf('script')}; ` +
  "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/**
 * Renders the page of one process, all but the count, so that a greeting only joins bytes.
 *
 * Whoever has sent a greeting gives its bytes back with `reuse`, and never looks at them again. New bytes for each page are
 * memory that is in no cache, and they cost a quarter of the CPU time of a greeting.
 */
export function preparePage(place: Place, repository = ownRepository) {
  const [before, between, after] = render(place, repository, 'greeting')
    .split('{{count}}')
    .map((part) => Buffer.from(part)) as [Buffer, Buffer, Buffer];
  const waiting = (trouble: Trouble): Buffer =>
    Buffer.from(render(place, repository, trouble).replaceAll('{{count}}', '…'));
  const longest = before.length + between.length + after.length + 2 * String(Number.MAX_SAFE_INTEGER).length;
  const kept: ArrayBufferLike[] = [];
  return {
    greeting: (count: number): Buffer => {
      const number = Buffer.from(String(count));
      const bytes = Buffer.from(kept.pop() ?? new ArrayBuffer(longest));
      let length = 0;
      for (const part of [before, number, between, number, after]) length += part.copy(bytes, length);
      return bytes.subarray(0, length);
    },
    reuse: (greeting: Buffer): void => {
      if (kept.length < MOST_KEPT) kept.push(greeting.buffer);
    },
    waiting: (trouble: Trouble): Buffer => waiting(trouble),
  };
}

/** The page with each `{{name}}` replaced but the count, and without the elements whose `data-if` does not hold. */
function render({ dyno, store, onHeroku }: Place, repository: string, state: 'greeting' | Trouble): string {
  const where = onHeroku ? 'heroku' : 'home';
  const holds = [store, where, state];
  // Nobody has published this copy as long as its address names OWNER.
  if (!repository.includes('/OWNER/')) holds.push('published');
  const values: Readonly<Record<string, string>> = { dyno, store, where, repository };
  return html
    .replace(
      /<(\w+)(?:\s+hidden)?\s+data-if="([^"]*)"([^]*?<\/\1>)/g,
      (_element, tag: string, condition: string, rest: string) =>
        condition.split(', ').every((needed) => holds.includes(needed)) ? `<${tag}${rest}` : '',
    )
    .replace(/\{\{(\w+)\}\}/g, (placeholder, name: string) => {
      const value = values[name];
      return value === undefined ? placeholder : escape(value);
    });
}

/** What a policy calls an inline element: the digest of all between its tags (CSP Level 3, 6.7.3.3). */
function hashOf(element: string): string {
  const content = html.slice(html.indexOf(`<${element}>`) + element.length + 2, html.indexOf(`</${element}>`));
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
}

function escape(text: string): string {
  return text.replace(/[&<>"'{]/g, (character) => `&#${character.charCodeAt(0)};`);
}
