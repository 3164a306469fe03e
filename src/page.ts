// The page: views/hello.html with its placeholders filled in, and the policy that lets it run.

import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { UnavailableCode } from './counters/counters.ts';

/** What the page is told of the process that sends it. It does not change while the process runs. */
export interface PageContext {
  readonly dyno: string;
  readonly store: 'memory' | 'memcached';
  readonly onHeroku: boolean;
}

const { repository: ownRepository } = JSON.parse(read('app.json')) as { repository: string };
const template = read('views/hello.html');

/** The `Content-Security-Policy` that lets exactly this page's style and script run. */
export const contentSecurityPolicy =
  `default-src 'none'; style-src ${hashOf('style')}; script-src ${hashOf('script')}; ` +
  "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/** Fills in all that one process knows beforehand, so that a greeting only has to add its count. Tests give another repository. */
export function preparePage({ dyno, store, onHeroku }: PageContext, repository = ownRepository) {
  const filled = template
    .replaceAll('{{dyno}}', () => escapeHtml(dyno))
    .replaceAll('{{store}}', store)
    .replaceAll('{{repository}}', () => escapeHtml(repository));
  const processStates: string[] = [store];
  if (onHeroku) processStates.push('heroku');
  // A link to an address that still contains OWNER would lead nowhere.
  if (!repository.includes('/OWNER/')) processStates.push('published');
  const render = (...states: string[]): string => applyConditions(filled, [...processStates, ...states]);
  const pieces = render('greeting').split('{{count}}');
  return {
    greeting: (count: number): string => pieces.join(String(count)),
    /** Says why there is no count and, after a POST, that nothing was ended. */
    unavailable: (code: UnavailableCode, method: string): string => render('unavailable', code, method),
  };
}

/**
 * Keeps an element with `data-if="a, b"` only if all its states are among `states`, and then without this attribute. In the
 * template, the attribute comes first, and the element contains no other of the same tag.
 */
function applyConditions(html: string, states: readonly string[]): string {
  const conditional = /<(\w+) data-if="([^"]*)"([^]*?<\/\1>)/g;
  return html.replace(conditional, (_element, tag: string, condition: string, rest: string) => {
    const isKept = condition.split(', ').every((state) => states.includes(state));
    // What it contains may have conditions too.
    return isKept ? applyConditions(`<${tag}${rest}`, states) : '';
  });
}

/** The digest of what is between an element's tags (CSP Level 3, 6.7.3.3). The template has one of each, without attributes. */
function hashOf(element: string): string {
  const [, content] = template.split(new RegExp(`</?${element}>`)) as [string, string, string];
  return `'sha256-${hash('sha256', content, 'base64')}'`;
}

/** Makes text safe in HTML, free of placeholders, and ASCII: one character beyond Latin-1 would double a page's CPU time. */
function escapeHtml(text: string): string {
  return text.replace(/[&<>"'{]|[^ -~]/gu, (character) => `&#${character.codePointAt(0)};`);
}

function read(file: string): string {
  return readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
}
