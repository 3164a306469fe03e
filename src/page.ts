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

export interface Page {
  /** The page that shows a count. */
  readonly greeting: (count: number) => string;
  /** The page that says why there is no count. A visitor who sent a POST also reads that nothing was ended. */
  readonly unavailable: (code: UnavailableCode, method: string) => string;
}

const { repository: ownRepository } = JSON.parse(read('app.json')) as { repository: string };
const template = read('views/hello.html');

/** The `Content-Security-Policy` that lets exactly this page's style and script run. */
export const contentSecurityPolicy =
  `default-src 'none'; style-src ${hashOf('style')}; script-src ${hashOf('script')}; ` +
  "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/** Prepares the page of one process, so that a greeting only adds its count. */
export function preparePage({ dyno, store, onHeroku }: PageContext, repository = ownRepository): Page {
  const values = { dyno, store, repository };
  // While the address still contains OWNER, a link to it would lead nowhere.
  const processStates = [store, onHeroku && 'heroku', !repository.includes('/OWNER/') && 'published'];
  /** Fills in every `{{name}}` but the count. */
  const render = (...states: string[]): string =>
    applyConditions(template, [...states, ...processStates]).replace(
      /\{\{(?!count\}\})(\w+)\}\}/g,
      (_placeholder, name: keyof typeof values) => escapeHtml(values[name]),
    );
  const pieces = render('greeting').split('{{count}}');
  return {
    greeting: (count) => pieces.join(String(count)),
    unavailable: (code, method) => render('unavailable', code, method),
  };
}

/**
 * Keeps each element with `data-if` only if every state that it names is current, and then without that attribute. It has to be
 * the first attribute, with ", " between the states, and the element may not contain another of its tag.
 */
function applyConditions(html: string, states: readonly (string | false)[]): string {
  const conditional = /<(\w+) data-if="([^"]*)"([^]*?<\/\1>)/g;
  return html.replace(conditional, (_element, tag: string, condition: string, rest: string) =>
    condition.split(', ').every((state) => states.includes(state)) ? applyConditions(`<${tag}${rest}`, states) : '',
  );
}

/**
 * A policy names an inline element by the digest of all between its tags (CSP Level 3, 6.7.3.3). The template has one of each,
 * without attributes.
 */
function hashOf(element: string): string {
  const [, content] = template.split(new RegExp(`</?${element}>`)) as [string, string, string];
  return `'sha256-${hash('sha256', content, 'base64')}'`;
}

/**
 * Makes text safe in HTML, free of placeholders, and ASCII: a single character of more than one byte would double the CPU time
 * of joining and sending a page.
 */
function escapeHtml(text: string): string {
  return text.replace(/[&<>"'{]|[^ -~]/gu, (character) => `&#${character.codePointAt(0)};`);
}

function read(file: string): string {
  return readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
}
