/** What was measured: for each contender and figure one value a generation, and no value if that was not measured. */
export class Figures {
  readonly #values = new Map<string, number[]>();

  add(id: string, figures: Readonly<Record<string, number>>): void {
    for (const [figure, value] of Object.entries(figures)) {
      this.#values.set(`${id} ${figure}`, [...this.of(id, figure), value]);
    }
  }

  of(id: string, figure: string): number[] {
    return this.#values.get(`${id} ${figure}`) ?? [];
  }

  /** How many times the other's figure it is, in each generation. */
  ratios(figure: string, id: string, other: string): number[] {
    const others = this.of(other, figure);
    return this.of(id, figure)
      .map((value, generation) => value / (others[generation] ?? NaN))
      .filter(Number.isFinite);
  }

  overlap(figure: string, id: string, other: string): boolean {
    const [one, two] = [this.of(id, figure), this.of(other, figure)];
    return Math.min(...one) <= Math.max(...two) && Math.min(...two) <= Math.max(...one);
  }
}

export function median(values: Iterable<number>): number {
  const sorted = Float64Array.from(values).sort();
  return (percentile(sorted, 50) + (sorted[Math.floor(sorted.length / 2)] ?? NaN)) / 2;
}

/** The value that so many percent of the sorted values do not exceed. */
export function percentile(sorted: Float64Array, percent: number): number {
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? NaN;
}

/** The median and, in brackets, the least and the most, such as "30.2 (29.5–31.0)". */
export function spread(values: readonly number[], digits: number): string {
  const [middle, least, most] = [median(values), Math.min(...values), Math.max(...values)].map((value) =>
    decimal(value, digits),
  );
  if (values.length === 0) return '';
  return least === most ? String(middle) : `${middle} (${least}–${most})`;
}

export function decimal(value: number, digits = 0): string {
  return value.toLocaleString('en-GB', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
