/** Digits after the decimal point. Percentiles have two, and what is not named here has none. */
const DIGITS: Readonly<Record<string, number>> = { cpu: 1, storeCpu: 1, alone: 3 };

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

  /** The median as the report prints it, so that a reader can calculate with it. */
  median(id: string, figure: string): number {
    return Number(median(this.of(id, figure)).toFixed(digits(figure)));
  }

  /** The median and, in brackets, the minimum and the maximum, such as "30.2 (29.5–31.0)". Empty if it was not measured. */
  show(id: string, figure: string): string {
    const values = this.of(id, figure);
    if (values.length === 0) return '';
    const [least, most] = [Math.min(...values), Math.max(...values)].map((value) => decimal(value, digits(figure)));
    const middle = decimal(this.median(id, figure), digits(figure));
    return least === most ? middle : `${middle} (${least}–${most})`;
  }

  /** The ratio of two medians as the report prints them, and whether the ranges tell them apart. */
  relative(figure: string, id: string, other: string): string {
    const ratio = this.median(id, figure) / this.median(other, figure);
    if (Number.isNaN(ratio)) return '';
    const [one, two] = [this.of(id, figure), this.of(other, figure)];
    const areApart = Math.min(...one) > Math.max(...two) || Math.min(...two) > Math.max(...one);
    return id === other || areApart ? ratio.toFixed(2) : `${ratio.toFixed(2)}, ranges overlap`;
  }
}

function digits(figure: string): number {
  return DIGITS[figure] ?? (figure.endsWith('th') ? 2 : 0);
}

export function median(values: Iterable<number>): number {
  const sorted = Float64Array.from(values).sort();
  return (percentile(sorted, 50) + (sorted[Math.floor(sorted.length / 2)] ?? NaN)) / 2;
}

/** The value that so many percent of the sorted values do not exceed. */
export function percentile(sorted: Float64Array, percent: number): number {
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? NaN;
}

export function decimal(value: number, digits = 0): string {
  return value.toLocaleString('en-GB', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
