import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const read = (file: string): string => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
const { repository = '' } = JSON.parse(read('app.json')) as { repository?: string };
// Without its indentation it fits into the ten packets that a server sends before it waits (RFC 6928).
const html = read('views/hello.html').replace(/^ +/gm, '');
/** Every second one is the name of a placeholder. */
const parts = html.split(/\{\{(\w+)\}\}/);

/** The `Content-Security-Policy` that lets exactly this page's style and script run. */
export const policy =
  `default-src 'none'; style-src ${hashOf('style')}; script-src ${hashOf('script')}; ` +
  "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/** The page, with each `{{name}}` replaced by its value, escaped. */
export function render(values: Readonly<Record<string, string>>): string {
  const all: typeof values = { source: repository, ...values };
  return parts.map((part, index) => (index % 2 ? escape(all[part] ?? '') : part)).join('');
}

/** What a policy calls an inline element: the digest of all between its tags (CSP Level 3, 6.7.3.3). */
function hashOf(element: string): string {
  const content = html.slice(html.indexOf(`<${element}>`) + element.length + 2, html.indexOf(`</${element}>`));
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
