import type { Figures } from './figures.ts';
import { PERCENTILES } from './measures.ts';

/** The marks, what was measured, and whether that meets them as it is printed, as rows of a table. */
export function marks(figures: Figures, distances: readonly number[]): string[][] {
  const ours = (figure: string): string => figures.show('hello-n', figure);
  const cpu = (id: string, other = 'hello-n'): string => figures.relative('cpu', id, other);
  const latency = (figure: string): string => figures.relative(figure, 'hello-n', 'plain-memjs');
  const memory = (figure: string, id = 'hello-n'): number => figures.median(id, figure);
  return [
    atLeast(0.9, 'greetings per CPU second, relative to bare Fastify (aim: 0.95)', cpu('bare')),
    atLeast(0.85, 'pages per CPU second, relative to bare Fastify with that page', cpu('bare-page', 'hello-n-page')),
    atMost(1.9, 'CPU time of the page, relative to the text', cpu('hello-n-page')),
    atLeast(2.9, 'CPU time of @fastify/session with memjs, relative to hello-n', cpu('fastify-session-memjs')),
    atLeast(2.3, 'CPU time of @fastify/session with Redis, relative to hello-n', cpu('fastify-session-redis')),
    atLeast(3, 'CPU time of express-session with Redis, relative to hello-n', cpu('express-session-redis')),
    atLeast(2.5, 'CPU time of PHP with nginx, relative to hello-n', cpu('php')),
    atMost(1.15, 'latency over one connection, relative to plain memjs', latency('alone')),
    ...distances.flatMap((roundTrip) =>
      PERCENTILES.map((percent) => {
        const what = `latency beyond a round trip of ${roundTrip} ms, ${percent}th percentile, relative to plain memjs`;
        return atMost(1, what, latency(`${roundTrip} ms, ${percent}th`));
      }),
    ),
    atMost(500, 'start until it listens, ms', ours('start')),
    none('counts lost, of 200 requests at once', ours('lost')),
    none('numbers repeated, of 200 requests at once', ours('repeated')),
    none('difference of the greetings sent and the sum of all counts', ours('miscounted')),
    atMost(60, 'memory above bare Fastify, MB', String(memory('full') - memory('full', 'bare'))),
    atMost(8, 'memory gained over the second half of the greetings, MB', String(memory('full') - memory('half'))),
    atMost(
      1.1,
      'memory after all sessions, relative to a tenth of them',
      (memory('late') / memory('early')).toFixed(2),
    ),
    none('descriptors left after all sessions', ours('descriptors')),
    none('requests of these sessions that went wrong', ours('wrong')),
  ];
}

function atLeast(mark: number, what: string, measured: string): string[] {
  return row(what, `at least ${mark}`, measured, number(measured) >= mark);
}

function atMost(mark: number, what: string, measured: string): string[] {
  return row(what, `at most ${mark}`, measured, number(measured) <= mark);
}

function none(what: string, measured: string): string[] {
  return row(what, 'none', measured, measured === '0');
}

function row(what: string, mark: string, measured: string, isMet: boolean): string[] {
  return measured ? [what, mark, measured, isMet ? 'met' : '**not met**'] : [what, mark, 'not measured', ''];
}

/** The first number of what is printed. */
function number(measured: string): number {
  return parseFloat(measured.replaceAll(',', ''));
}
