import { median, spread, type Figures } from './figures.ts';
import { PERCENTILES } from './measures.ts';

/** The marks, what was measured, and whether they are met, as rows of a table. The median has to meet them. */
export function marks(figures: Figures, distances: readonly number[]): string[][] {
  const of = (figure: string): number[] => figures.of('hello-n', figure);
  const cpu = (id: string, other = 'hello-n'): number[] => figures.ratios('cpu', id, other);
  return [
    atLeast(0.9, 'greetings per CPU second, relative to bare Fastify (aim: 0.95)', cpu('bare')),
    atLeast(
      0.85,
      'pages per CPU second, relative to bare Fastify with the same page',
      cpu('bare-page', 'hello-n-page'),
    ),
    atMost(1.9, 'CPU time of the page, relative to the text', cpu('hello-n-page')),
    atLeast(2.9, 'CPU time of @fastify/session with memjs, relative to hello-n', cpu('fastify-session-memjs')),
    atLeast(2.3, 'CPU time of @fastify/session with Redis, relative to hello-n', cpu('fastify-session-redis')),
    atLeast(3, 'CPU time of express-session with Redis, relative to hello-n', cpu('express-session-redis')),
    atLeast(2.5, 'CPU time of PHP with nginx, relative to hello-n', cpu('php')),
    atMost(
      1.15,
      'latency over one connection, relative to plain memjs',
      figures.ratios('alone', 'hello-n', 'plain-memjs'),
    ),
    ...distances.flatMap((roundTrip) =>
      PERCENTILES.map((percent) => {
        const figure = `${roundTrip} ms, ${percent}th`;
        return atMost(
          1,
          `latency beyond a round trip of ${roundTrip} ms, ${percent}th percentile, relative to plain memjs`,
          figures.ratios(figure, 'hello-n', 'plain-memjs'),
        );
      }),
    ),
    atMost(500, 'start until it listens, ms', of('start'), 0),
    atMost(0, 'counts lost, or numbers repeated, of 200 at once', [...of('lost'), ...of('repeated')], 0),
    atMost(0, 'difference of the greetings sent and the sum of all counts', of('miscounted'), 0),
    atMost(60, 'memory above bare Fastify, MB', of('aboveBare'), 1),
    atMost(8, 'memory gained over the second half of the greetings, MB', of('gained'), 1),
  ];
}

function atLeast(mark: number, what: string, values: readonly number[]): string[] {
  return row(what, `at least ${mark}`, values, 3, median(values) >= mark);
}

function atMost(mark: number, what: string, values: readonly number[], digits = 3): string[] {
  return row(
    what,
    mark === 0 ? 'none' : `at most ${mark}`,
    values,
    digits,
    mark === 0 ? values.every((value) => value === 0) : median(values) <= mark,
  );
}

function row(what: string, mark: string, values: readonly number[], digits: number, isMet: boolean): string[] {
  return [
    what,
    mark,
    spread(values, digits) || 'not measured',
    values.length === 0 ? '' : isMet ? 'met' : '**not met**',
  ];
}
