/**
 * Arrays of numbers in the order of NumPy's memory (the last axis runs fastest), and the statistics that the engine
 * needs. Sums run in NumPy's order, so that network inputs agree with Python's to the last bit.
 */

export type Shape = readonly [number, number, number];
export type Numbers = Float64Array | Float32Array | Uint8Array | Uint16Array | Int16Array | Int32Array;
export interface Array3<T extends Numbers> {
  readonly data: T;
  /** (i, j, k); voxel (i, j, k) lies at (i * nj + j) * nk + k. */
  readonly shape: Shape;
}
export type Image = Array3<Float64Array>;
export type Image32 = Array3<Float32Array>;
/** 0 or 1. */
export type Mask = Array3<Uint8Array>;

export const sizeOf = (shape: Shape): number => shape[0] * shape[1] * shape[2];

export const emptyMask = (shape: Shape): Mask => ({ data: new Uint8Array(sizeOf(shape)), shape });

export function sameShape(a: Shape, b: Shape): boolean {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2];
}

/** A new array of the same kind. */
export function alike<T extends Numbers>(data: T, length: number): T {
  return new (data.constructor as new (length: number) => T)(length);
}

/** Half to even, as NumPy's `rint` and Python's `round`. */
export function rint(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

export function minimum(values: Numbers): number {
  let low = Infinity;
  for (let at = 0; at < values.length; at++) if (values[at] < low) low = values[at];
  return low;
}

export function maximum(values: Numbers): number {
  let high = -Infinity;
  for (let at = 0; at < values.length; at++) if (values[at] > high) high = values[at];
  return high;
}

export const range = (values: Numbers): number => maximum(values) - minimum(values);

export function count(mask: Numbers): number {
  let n = 0;
  for (let at = 0; at < mask.length; at++) if (mask[at]) n++;
  return n;
}

/** A function of each value: as `map`, which is several times slower than a loop. */
export function mapped<T extends Numbers>(values: T, rule: (value: number, at: number) => number): T {
  const result = alike(values, values.length);
  for (let at = 0; at < result.length; at++) result[at] = rule(values[at], at);
  return result;
}

/** 1 where a rule holds, else 0. */
export function where<T extends Numbers>(values: T, rule: (value: number, at: number) => unknown): Uint8Array {
  const result = new Uint8Array(values.length);
  for (let at = 0; at < result.length; at++) result[at] = rule(values[at], at) ? 1 : 0;
  return result;
}

/** Where in memory the voxels of a mask lie. */
export function placesOf(mask: Uint8Array): Int32Array {
  const places = new Int32Array(count(mask));
  for (let at = 0, n = 0; at < mask.length; at++) if (mask[at]) places[n++] = at;
  return places;
}

/** The values inside a mask, in memory order. */
export function inside<T extends Numbers>(values: T, mask: Uint8Array): T {
  const found = alike(values, count(mask));
  let n = 0;
  for (let at = 0; at < mask.length; at++) if (mask[at]) found[n++] = values[at];
  return found;
}

/** Pairwise summation as in NumPy: blocks of 128 with eight running sums. */
export function sum(values: Numbers, first = 0, n = values.length): number {
  if (n < 8) {
    let total = 0;
    for (let at = 0; at < n; at++) total += values[first + at];
    return total;
  }
  if (n <= 128) {
    const last = first + n;
    const whole = last - (n % 8);
    let [r0, r1, r2, r3] = [values[first], values[first + 1], values[first + 2], values[first + 3]];
    let [r4, r5, r6, r7] = [values[first + 4], values[first + 5], values[first + 6], values[first + 7]];
    let at = first + 8;
    for (; at < whole; at += 8) {
      r0 += values[at];
      r1 += values[at + 1];
      r2 += values[at + 2];
      r3 += values[at + 3];
      r4 += values[at + 4];
      r5 += values[at + 5];
      r6 += values[at + 6];
      r7 += values[at + 7];
    }
    let total = r0 + r1 + (r2 + r3) + (r4 + r5 + (r6 + r7));
    for (; at < last; at++) total += values[at];
    return total;
  }
  let half = Math.floor(n / 2);
  half -= half % 8;
  return sum(values, first, half) + sum(values, first + half, n - half);
}

export const mean = (values: Numbers): number => sum(values) / values.length;

/** Population standard deviation. */
export function deviation(values: Numbers): number {
  const centre = mean(values);
  const squares = new Float64Array(values.length);
  for (let at = 0; at < values.length; at++) {
    const apart = values[at] - centre;
    squares[at] = apart * apart;
  }
  return Math.sqrt(mean(squares));
}

/**
 * The k-th smallest value; reorders what it is given, so that no smaller one lies after it (Hoare's selection). The
 * `low` smallest ones lie first already.
 */
function select(values: Numbers, k: number, low = 0): number {
  let high = values.length - 1;
  while (low < high) {
    const pivot = values[(low + high) >> 1];
    let i = low;
    let j = high;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i <= j) {
        const held = values[i];
        values[i++] = values[j];
        values[j--] = held;
      }
    }
    if (k <= j) high = j;
    else if (k >= i) low = i;
    else break;
  }
  return values[k];
}

/** NaN where there is no value. */
export function median(values: Numbers): number {
  const n = values.length;
  if (!n) return NaN;
  const copy = values.slice();
  const upper = select(copy, n >> 1);
  if (n % 2) return upper;
  let lower = -Infinity;
  for (let at = 0; at < n >> 1; at++) if (copy[at] > lower) lower = copy[at];
  return (lower + upper) / 2;
}

/** Quantile with linear interpolation, as NumPy's default. */
export function quantile(values: Numbers, share: number): number {
  return quantiles(values, [share])[0];
}

/** Of shares in ascending order; NaN where there is no value. */
export function quantiles(values: Numbers, shares: readonly number[]): number[] {
  const copy = values.slice();
  let low = 0;
  return shares.map((share) => {
    if (!copy.length) return NaN;
    const place = (copy.length - 1) * share;
    const below = Math.floor(place);
    const a = select(copy, below, low);
    low = below;
    let b = below + 1 < copy.length ? Infinity : a;
    for (let at = below + 1; at < copy.length; at++) if (copy[at] < b) b = copy[at];
    const t = place - below;
    return t >= 0.5 ? b - (b - a) * (1 - t) : a + (b - a) * t;
  });
}

export function finite(values: Float64Array): Float64Array {
  return inside(values, where(values, Number.isFinite));
}

/** How many different values there are, counted up to `most`. */
export function distinct(values: Numbers, most: number): number {
  const found = new Set<number>();
  for (let at = 0; at < values.length && found.size < most; at++) found.add(values[at]);
  return found.size;
}

export function isClose(a: number, b: number): boolean {
  return Math.abs(a - b) <= 1e-8 + 1e-5 * Math.abs(b);
}

/** Cut to a box; see `boundingBox`. */
export function crop<T extends Numbers>(array: Array3<T>, box: Box): Array3<T> {
  const shape: Shape = [box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0]];
  const data = alike(array.data, sizeOf(shape));
  const [, nj, nk] = array.shape;
  let n = 0;
  for (let i = box[0][0]; i < box[0][1]; i++)
    for (let j = box[1][0]; j < box[1][1]; j++) {
      const row = (i * nj + j) * nk;
      for (let k = box[2][0]; k < box[2][1]; k++) data[n++] = array.data[row + k];
    }
  return { data, shape };
}

/** Write a part back into its box. */
export function paste<T extends Numbers>(part: Array3<T>, box: Box, into: Array3<T>): void {
  const [, nj, nk] = into.shape;
  let n = 0;
  for (let i = box[0][0]; i < box[0][1]; i++)
    for (let j = box[1][0]; j < box[1][1]; j++) {
      const row = (i * nj + j) * nk;
      for (let k = box[2][0]; k < box[2][1]; k++) into.data[row + k] = part.data[n++];
    }
}

/** First and one past the last voxel along each axis. */
export type Box = readonly [readonly [number, number], readonly [number, number], readonly [number, number]];

/** The smallest box that holds a mask, with room around it where there is any; of an empty mask the whole array. */
export function boundingBox(mask: Mask, room: Shape = [0, 0, 0]): Box {
  const low = [Infinity, Infinity, Infinity];
  const high = [-1, -1, -1];
  const [ni, nj, nk] = mask.shape;
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++)
      for (let k = 0; k < nk; k++, at++)
        if (mask.data[at]) {
          if (i < low[0]) low[0] = i;
          if (j < low[1]) low[1] = j;
          if (k < low[2]) low[2] = k;
          if (i > high[0]) high[0] = i;
          if (j > high[1]) high[1] = j;
          if (k > high[2]) high[2] = k;
        }
  return [0, 1, 2].map((axis) =>
    high[axis] < 0
      ? [0, mask.shape[axis]]
      : [Math.max(low[axis] - room[axis], 0), Math.min(high[axis] + room[axis] + 1, mask.shape[axis])],
  ) as unknown as Box;
}

/** Voxels of a mask in each layer across an axis. */
export function layerCounts(mask: Mask, axis: number): Float64Array {
  const [ni, nj, nk] = mask.shape;
  const counts = new Float64Array(mask.shape[axis]);
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++)
      for (let k = 0; k < nk; k++, at++) if (mask.data[at]) counts[axis === 0 ? i : axis === 1 ? j : k]++;
  return counts;
}

/** One slice, (i, j). */
export function slice<T extends Numbers>(array: Array3<T>, k: number): T {
  const [ni, nj, nk] = array.shape;
  const plane = alike(array.data, ni * nj);
  for (let at = 0; at < plane.length; at++) plane[at] = array.data[at * nk + k];
  return plane;
}

export function putSlice<T extends Numbers>(array: Array3<T>, k: number, plane: T): void {
  const nk = array.shape[2];
  for (let at = 0; at < plane.length; at++) array.data[at * nk + k] = plane[at];
}

/** Logical combination of two masks. */
export function combine(a: Mask, b: Mask, rule: (a: number, b: number) => number | boolean): Mask {
  const data = new Uint8Array(a.data.length);
  for (let at = 0; at < data.length; at++) data[at] = rule(a.data[at], b.data[at]) ? 1 : 0;
  return { data, shape: a.shape };
}
