import { OURS } from './contenders.js';

export function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
}

/** How many times the value of hello-n it is: the median of each round's ratio, as a slow minute hits both. */
export function timesOurs(results, name, valueOf) {
  return median(results.get(name).map((round, index) => valueOf(round) / valueOf(results.get(OURS)[index])));
}
