/** Filters and labels with the conventions of scipy.ndimage, as far as the engine needs them. */

import { alike, type Array3, type Box, count, crop, emptyMask, type Mask, paste, sizeOf, type Shape } from "./arrays.js";

export type Offsets = readonly Shape[];

function neighbours(keep: (i: number, j: number, k: number) => boolean): Offsets {
  const found: Shape[] = [];
  for (let i = -1; i <= 1; i++)
    for (let j = -1; j <= 1; j++) for (let k = -1; k <= 1; k++) if (keep(i, j, k)) found.push([i, j, k]);
  return found;
}

/** By face, edge or corner. */
export const TOUCHING = neighbours(() => true);
/** By face. */
export const CROSS = neighbours((i, j, k) => Math.abs(i) + Math.abs(j) + Math.abs(k) <= 1);
/** By edge or corner, within a slice. */
export const IN_PLANE = neighbours((_i, _j, k) => k === 0);

export interface Labels {
  /** 0: background; components are numbered from 1 in the order of their first voxel. */
  readonly data: Int32Array;
  readonly shape: Shape;
  readonly n: number;
}

/** The same with a voxel of 0 around it, so that each voxel has all its neighbours. */
function rimmed(mask: Mask): Mask {
  const [ni, nj, nk] = mask.shape;
  const result = emptyMask([ni + 2, nj + 2, nk + 2]);
  paste(mask, inner(mask.shape), result);
  return result;
}

const inner = ([ni, nj, nk]: Shape): Box => [
  [1, ni + 1],
  [1, nj + 1],
  [1, nk + 1],
];

/** How far each neighbour lies in memory. */
const strides = (structure: Offsets, [, nj, nk]: Shape): Int32Array => Int32Array.from(structure, ([i, j, k]) => (i * nj + j) * nk + k);

/** Connected components. */
export function label(mask: Mask, structure: Offsets = TOUCHING): Labels {
  const { data: open, shape } = rimmed(mask);
  const apart = strides(structure, shape);
  const found = new Int32Array(open.length);
  const stack = new Int32Array(count(open));
  let n = 0;
  for (let start = open.indexOf(1); start >= 0; start = open.indexOf(1, start + 1)) {
    n++;
    let depth = 0;
    const visit = (at: number): void => {
      open[at] = 0;
      found[at] = n;
      stack[depth++] = at;
    };
    visit(start);
    while (depth) {
      const at = stack[--depth];
      for (let one = 0; one < apart.length; one++) if (open[at + apart[one]]) visit(at + apart[one]);
    }
  }
  return { ...crop({ data: found, shape }, inner(mask.shape)), n };
}

/** Voxels of each label, from 0. */
export function labelSizes(labels: Labels): Float64Array {
  const sizes = new Float64Array(labels.n + 1);
  for (let at = 0; at < labels.data.length; at++) sizes[labels.data[at]]++;
  return sizes;
}

export function dilate(mask: Mask, structure: Offsets): Mask {
  return morph(mask, structure, true);
}

/** What lies outside the image counts as outside the mask. */
export function erode(mask: Mask, structure: Offsets): Mask {
  return morph(mask, structure, false);
}

function morph(mask: Mask, structure: Offsets, grow: boolean): Mask {
  const { data, shape } = rimmed(mask);
  const apart = strides(structure, shape);
  const result = new Uint8Array(data.length);
  for (let at = 0; at < data.length; at++) {
    if (!data[at]) continue;
    let whole = 1;
    for (let one = 0; one < apart.length && whole; one++)
      if (grow) result[at + apart[one]] = 1;
      else whole = data[at + apart[one]];
    if (!grow) result[at] = whole;
  }
  return crop({ data: result, shape }, inner(mask.shape));
}

/** Fill what is not joined, by faces, with the outside; `flat`: nothing lies above and below a single slice. */
export function fillHoles(mask: Mask, flat = false): Mask {
  const [ni, nj, nk] = mask.shape;
  const outside = new Uint8Array(mask.data.length);
  const stack = new Int32Array(mask.data.length);
  let depth = 0;
  const visit = (at: number): void => {
    if (!mask.data[at] && !outside[at]) {
      outside[at] = 1;
      stack[depth++] = at;
    }
  };
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++)
      for (let k = 0; k < nk; k++, at++)
        if (i === 0 || j === 0 || i === ni - 1 || j === nj - 1 || (!flat && (k === 0 || k === nk - 1))) visit(at);
  while (depth) {
    const at = stack[--depth];
    const k = at % nk;
    const rest = (at - k) / nk;
    const j = rest % nj;
    const i = (rest - j) / nj;
    if (i > 0) visit(at - nj * nk);
    if (i < ni - 1) visit(at + nj * nk);
    if (j > 0) visit(at - nk);
    if (j < nj - 1) visit(at + nk);
    if (k > 0) visit(at - 1);
    if (k < nk - 1) visit(at + 1);
  }
  const data = new Uint8Array(outside.length);
  for (let at = 0; at < data.length; at++) data[at] = outside[at] ? 0 : 1;
  return { data, shape: mask.shape };
}

/** Borders: "reflect" repeats the last voxel (d c b a | a b c d), "mirror" does not (d c b | a b c d). */
export type Border = "reflect" | "mirror";

function bordered(at: number, n: number, border: Border): number {
  if (n === 1) return 0;
  const period = border === "reflect" ? 2 * n : 2 * n - 2;
  let place = ((at % period) + period) % period;
  if (place >= n) place = border === "reflect" ? period - 1 - place : period - place;
  return place;
}

/** Gaussian filter cut off at four deviations, one axis after another; a float32 array is rounded after each. */
export function gaussian<T extends Float64Array | Float32Array>(
  array: Array3<T>,
  sigmas: Shape,
  border: Border = "reflect",
): Array3<T> {
  let data = array.data;
  sigmas.forEach((sigma, axis) => {
    if (sigma > 1e-15) data = correlateSymmetric(data, array.shape, axis, gaussianKernel(sigma), border);
  });
  return { data, shape: array.shape };
}

function gaussianKernel(sigma: number): Float64Array {
  const reach = Math.floor(4 * sigma + 0.5);
  const half = Float64Array.from({ length: reach + 1 }, (_, at) => Math.exp((-0.5 / (sigma * sigma)) * at * at));
  let total = half[0];
  for (let at = 1; at <= reach; at++) total += 2 * half[at];
  return half.map((weight) => weight / total);
}

/** `half`: the weight of the middle, then of its neighbours on either side. */
function correlateSymmetric<T extends Float64Array | Float32Array>(
  data: T,
  shape: Shape,
  axis: number,
  half: Float64Array,
  border: Border,
): T {
  const n = shape[axis];
  const reach = half.length - 1;
  const stride = axis === 0 ? shape[1] * shape[2] : axis === 1 ? shape[2] : 1;
  const result = alike(data, data.length);
  const places = Int32Array.from({ length: n + 2 * reach }, (_, at) => bordered(at - reach, n, border) * stride);
  for (let outer = 0; outer < data.length; outer += stride * n)
    for (let at = 0; at < n; at++)
      // Along memory, whatever the axis.
      for (let inner = outer; inner < outer + stride; inner++) {
        let total = data[inner + places[at + reach]] * half[0];
        for (let by = reach; by > 0; by--) total += (data[inner + places[at + reach - by]] + data[inner + places[at + reach + by]]) * half[by];
        result[inner + at * stride] = total;
      }
  return result;
}

/** Mean of 3 x 3 voxels in plane, borders reflected. */
export function mean3x3(array: Array3<Float64Array>): Array3<Float64Array> {
  const half = Float64Array.of(1 / 3, 1 / 3);
  let data = array.data;
  for (const axis of [0, 1]) data = correlateSymmetric(data, array.shape, axis, half, "reflect");
  return { data, shape: array.shape };
}

/** Sum over a box about each voxel, with nothing beyond the image; of an even edge, one voxel more lies before it. */
export function boxSum(array: Array3<Float64Array>, edges: Shape): Float64Array {
  let data = array.data;
  edges.forEach((edge, axis) => {
    const n = array.shape[axis];
    const stride = axis === 0 ? array.shape[1] * array.shape[2] : axis === 1 ? array.shape[2] : 1;
    const before = Math.floor(edge / 2);
    const block = stride * n;
    const result = new Float64Array(data.length);
    const upTo = new Float64Array(block + stride);
    for (let start = 0; start < data.length; start += block) {
      for (let at = 0; at < block; at++) upTo[at + stride] = upTo[at] + data[start + at];
      for (let at = 0; at < n; at++) {
        const [low, high, to] = [Math.max(at - before, 0), Math.min(at - before + edge, n), start + at * stride];
        for (let by = 0; by < stride; by++) result[to + by] = upTo[high * stride + by] - upTo[low * stride + by];
      }
    }
    data = result;
  });
  return data;
}

/** Correlation with 3 x 3 symmetric weights in plane, borders reflected. */
export function correlate3x3(array: Array3<Float64Array>, weights: readonly number[]): Float64Array {
  const [ni, nj, nk] = array.shape;
  const result = new Float64Array(sizeOf(array.shape));
  const starts = new Int32Array(9);
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++) {
      for (let a = -1, n = 0; a <= 1; a++)
        for (let b = -1; b <= 1; b++) starts[n++] = (bordered(i + a, ni, "reflect") * nj + bordered(j + b, nj, "reflect")) * nk;
      for (let k = 0; k < nk; k++, at++) {
        let total = 0;
        for (let n = 0; n < 9; n++) total += weights[n] * array.data[starts[n] + k];
        result[at] = total;
      }
    }
  return result;
}

/** Distance of each voxel of a slice to the nearest one outside the mask, in units of `edges`; no farther than `most`. */
export function distance2d(mask: Uint8Array, ni: number, nj: number, edges: readonly [number, number], most = Infinity): Float64Array {
  const none = 1e9;
  // Along i: rows to the nearest outside in the same column.
  const apart = new Float64Array(ni * nj).fill(none);
  for (let j = 0; j < nj; j++) {
    for (let i = 0, last = -none; i < ni; i++) {
      if (!mask[i * nj + j]) last = i;
      apart[i * nj + j] = i - last;
    }
    for (let i = ni - 1, last = none; i >= 0; i--) {
      if (!mask[i * nj + j]) last = i;
      apart[i * nj + j] = Math.min(apart[i * nj + j], last - i);
    }
  }
  const result = new Float64Array(ni * nj);
  for (let i = 0; i < ni; i++)
    for (let j = 0; j < nj; j++) {
      if (!mask[i * nj + j]) continue;
      let best = most * most;
      for (let by = 0; by < nj; by++) {
        const along = by * edges[1];
        if (along * along >= best) break;
        for (let other = j - by; other <= j + by; other += 2 * by || 1) {
          if (other < 0 || other >= nj) continue;
          const across = apart[i * nj + other] * edges[0];
          const squared = across * across + along * along;
          if (squared < best) best = squared;
        }
      }
      result[i * nj + j] = Math.sqrt(best);
    }
  return result;
}

/** Places from which a resized line is taken: scipy's `zoom` with grid_mode and mirrored borders. */
function zoomPlaces(from: number, to: number): Float64Array {
  const zoom = from / to;
  return Float64Array.from({ length: to }, (_, at) => {
    let place = (at + 0.5) * zoom - 0.5;
    if (from === 1) return 0;
    const period = 2 * from - 2;
    if (place < 0) {
      place = period * Math.trunc(-place / period) + place;
      place = place <= 1 - from ? place + period : -place;
    } else if (place > from - 1) {
      place -= period * Math.trunc(place / period);
      if (place >= from) place = period - place;
    }
    return place;
  });
}

/** Nearest neighbour: for each voxel of the result, the voxel of the source. */
export function zoomNearest(from: number, to: number): Int32Array {
  return Int32Array.from(zoomPlaces(from, to), (place) => bordered(Math.floor(place + 0.5), from, "mirror"));
}

/** Linear interpolation of a slice. */
export function zoomLinear(
  plane: Float64Array,
  from: readonly [number, number],
  to: readonly [number, number],
): Float64Array {
  const along = [0, 1].map((axis) => {
    const places = zoomPlaces(from[axis], to[axis]);
    return {
      low: Int32Array.from(places, (place) => bordered(Math.floor(place), from[axis], "mirror")),
      high: Int32Array.from(places, (place) => bordered(Math.floor(place) + 1, from[axis], "mirror")),
      share: places.map((place) => place - Math.floor(place)),
    };
  });
  const [rows, columns] = along;
  const result = new Float64Array(to[0] * to[1]);
  for (let i = 0, at = 0; i < to[0]; i++) {
    const low = rows.low[i] * from[1];
    const high = rows.high[i] * from[1];
    const x1 = rows.share[i];
    const x0 = 1 - x1;
    for (let j = 0; j < to[1]; j++, at++) {
      const y1 = columns.share[j];
      const y0 = 1 - y1;
      const left = columns.low[j];
      const right = columns.high[j];
      result[at] =
        plane[low + left] * x0 * y0 + plane[low + right] * x0 * y1 + plane[high + left] * x1 * y0 + plane[high + right] * x1 * y1;
    }
  }
  return result;
}
