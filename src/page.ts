import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The page that a browser gets. */
export interface Page {
  /** The `Content-Security-Policy` that lets exactly this page's style and script run. */
  readonly policy: string;
  /** The page with each `{{name}}` replaced by its value, escaped. */
  render(values: Readonly<Record<string, string>>): string;
}

/** Reads the page once, when the process starts. */
export function loadPage(): Page {
  const { repository = '' } = JSON.parse(read('app.json')) as { repository?: string };
  // Without its indentation it fits into the ten packets that a server sends before it waits (RFC 6928).
  const lines = read('views/hello.html').replace(/^ +/gm, '');
  const html = lines.replace('{{source}}', () => escape(repository));
  // Every second part is the name of a placeholder.
  const parts = html.split(/\{\{(\w+)\}\}/);
  return {
    policy: [
      "default-src 'none'",
      `style-src ${hashOf(html, 'style')}`,
      `script-src ${hashOf(html, 'script')}`,
      "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ].join('; '),
    render: (values) => parts.map((part, index) => (index % 2 ? escape(values[part] ?? '') : part)).join(''),
  };
}

function read(file: string): string {
  return readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
}

/** What a policy calls an inline element: the digest of all between its tags (CSP Level 3, 6.7.3.3). */
function hashOf(html: string, element: string): string {
  const [, content = ''] = new RegExp(`<${element}>([^]*?)</${element}>`).exec(html) ?? [];
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
