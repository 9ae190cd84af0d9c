/** From the native grid to the working grid and back (`fvv.imaging.geometry`, and the properties of `InPlaneGrid`). */

import {
  alike,
  type Array3,
  type Image,
  type Mask,
  maximum,
  minimum,
  type Numbers,
  putSlice,
  rint,
  type Shape,
  sizeOf,
  slice,
} from "./arrays.js";
import { type Affine, FvvError, type InPlaneGrid, type Orientation, type Volume } from "./data.js";
import { gaussian, zoomLinear, zoomNearest } from "./ndimage.js";

const SHRINK_OVER = 272;
const ENLARGE_UNDER = 240;
const SAME_GRID_SHARE = 0.1;
const MOST_SLICES = 384;
const LONGEST_OVER_SIZE = 8;
const AXIAL: Orientation = [
  [0, 1],
  [1, 1],
  [2, 1],
];

export function spacing(affine: Affine): [number, number, number] {
  return [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis])) as [number, number, number];
}

export function determinant(m: Affine): number {
  return (
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
    m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
    m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
  );
}

/** A volume on a sound grid; refused: singular, sheared or not finite. */
export function volumeOf(image: Image, affine: Affine): Volume {
  if (!affine.flat().every(Number.isFinite)) throw new FvvError("expected a finite 4 x 4 affine");
  const volume = Math.abs(determinant(affine));
  if (volume < 1e-9) throw new FvvError("the affine is singular: the voxels have no volume");
  const [i, j, k] = spacing(affine);
  if (volume < 0.99 * i * j * k)
    throw new FvvError("the affine is sheared: the voxels have no right angles", "resample the image onto an upright grid");
  return { image, affine };
}

export function cornerDisplacementMm(a: Volume, b: Volume): number {
  const far = a.image.shape.map((n) => n - 1);
  let most = 0;
  for (const i of [0, far[0]])
    for (const j of [0, far[1]])
      for (const k of [0, far[2]]) {
        const apart = [0, 1, 2].map((row) =>
          [i, j, k, 1].reduce((total, at, column) => total + at * (a.affine[row][column] - b.affine[row][column]), 0),
        );
        most = Math.max(most, Math.hypot(...apart));
      }
  return most;
}

export function sameGrid(a: Volume, b: Volume): boolean {
  if (a.image.shape.some((n, axis) => n !== b.image.shape[axis])) return false;
  return cornerDisplacementMm(a, b) <= SAME_GRID_SHARE * Math.min(...spacing(a.affine), ...spacing(b.affine));
}

/** The same voxels with their axes in the order and direction of another grid; null where that is not its grid. */
export function reorientedLike(volume: Volume, like: Volume): Volume | null {
  const relative = multiply(inverse(like.affine), volume.affine);
  const orientation = closestAxes(relative);
  const image = turn(volume.image, orientation);
  // Voxel of the turned array to voxel of the stored one.
  const back = [0, 1, 2].map((stored) => {
    const [axis, flip] = orientation[stored];
    const row = [0, 0, 0, flip > 0 ? 0 : volume.image.shape[stored] - 1];
    row[axis] = flip;
    return row;
  });
  const turned = { image, affine: multiply(volume.affine, [...back, [0, 0, 0, 1]]) };
  return sameGrid(turned, like) ? turned : null;
}

export function planGrid(volume: Volume, size = 256, keepLeftRight = false): InPlaneGrid {
  const orientation = keepLeftRight ? referenceOrientation(volume) : nearestRas(volume);
  const grid = { nativeShape: volume.image.shape, nativeAffine: volume.affine, orientation, scale: 1, size };
  const [nx, ny, slices] = orientedShape(grid);
  let scale = 1;
  if (Math.min(nx, ny) < (ENLARGE_UNDER * size) / 256) scale = Math.min(size / nx, size / ny);
  if (Math.max(nx, ny) > (SHRINK_OVER * size) / 256) scale = Math.max(size / nx, size / ny);
  const stored = `${volume.image.shape.join(" x ")} voxels`;
  if (slices > MOST_SLICES)
    throw new FvvError(
      `${slices} axial slices (${stored}), expected at most ${MOST_SLICES}`,
      "resample the image to slices of 1 mm or more",
    );
  if (scale * Math.max(nx, ny) > LONGEST_OVER_SIZE * size)
    throw new FvvError(
      `${nx} x ${ny} voxels in an axial slice (${stored}): no slice of a head has such proportions`,
      "the axes may be in another order than the affine says; otherwise resample to square voxels",
    );
  return { ...grid, scale };
}

export function orientedShape(grid: InPlaneGrid): Shape {
  const shape = [0, 0, 0];
  grid.orientation.forEach(([axis], stored) => (shape[axis] = grid.nativeShape[stored]));
  return [shape[0], shape[1], shape[2]];
}

export function scaledShape(grid: InPlaneGrid): Shape {
  const [nx, ny, nz] = orientedShape(grid);
  return grid.scale === 1 ? [nx, ny, nz] : [rint(nx * grid.scale), rint(ny * grid.scale), nz];
}

/** Voxel edges of the native grid in the order of the working grid's axes, mm. */
export function orientedSpacing(grid: InPlaneGrid): [number, number, number] {
  const native = spacing(grid.nativeAffine);
  const oriented: [number, number, number] = [0, 0, 0];
  grid.orientation.forEach(([axis], stored) => (oriented[axis] = native[stored]));
  return oriented;
}

/** Voxel edges of the working grid, mm. */
export function gridSpacing(grid: InPlaneGrid): [number, number, number] {
  const [dx, dy, dz] = orientedSpacing(grid);
  return [dx / grid.scale, dy / grid.scale, dz];
}

/** Volume of a voxel of the working grid, mL. */
export function voxelVolumeMl(grid: InPlaneGrid): number {
  const [dx, dy, dz] = orientedSpacing(grid);
  return (dx * dy * dz) / 1000 / (grid.scale * grid.scale);
}

/** Reorient and zoom: an image linearly, anti-aliased when it shrinks, within its range; order 0 by nearest voxel. */
export function scaleSlices<T extends Numbers>(array: Array3<T>, grid: InPlaneGrid, order: 0 | 1): Array3<T> {
  const oriented = turn(array, grid.orientation);
  return grid.scale === 1 ? oriented : resizeSlices(oriented, scaledShape(grid), order);
}

function resizeSlices<T extends Numbers>(array: Array3<T>, shape: Shape, order: 0 | 1): Array3<T> {
  const result: Array3<T> = { data: alike(array.data, sizeOf(shape)), shape };
  const [ni, nj, nk] = array.shape;
  if (order === 0) {
    const rows = zoomNearest(ni, shape[0]);
    const columns = zoomNearest(nj, shape[1]);
    for (let i = 0, at = 0; i < shape[0]; i++)
      for (let j = 0; j < shape[1]; j++) {
        const from = (rows[i] * nj + columns[j]) * nk;
        for (let k = 0; k < nk; k++) result.data[at++] = array.data[from + k];
      }
    return result;
  }
  for (let k = 0; k < nk; k++) {
    const resized = resizeSlice(Float64Array.from(slice(array, k)), [ni, nj], [shape[0], shape[1]]);
    // Votes are rounded, half to even.
    putSlice(result, k, array.data instanceof Float64Array ? (resized as T) : (resized.map(rint) as unknown as T));
  }
  return result;
}

function resizeSlice(plane: Float64Array, from: [number, number], to: [number, number]): Float64Array {
  const factors = [from[0] / to[0], from[1] / to[1]];
  let smooth = plane;
  if (factors[0] > 1 || factors[1] > 1) {
    const sigmas: Shape = [Math.max(0, (factors[0] - 1) / 2), Math.max(0, (factors[1] - 1) / 2), 0];
    smooth = gaussian({ data: plane, shape: [from[0], from[1], 1] }, sigmas, "mirror").data;
  }
  const resized = zoomLinear(smooth, from, to);
  const low = minimum(plane);
  const high = maximum(plane);
  for (let at = 0; at < resized.length; at++) resized[at] = Math.min(Math.max(resized[at], low), high);
  return resized;
}

/** Pad with 0 or crop the two in-plane axes about the centre, the smaller half first. */
export function padOrCrop<T extends Numbers>(array: Array3<T>, ni: number, nj = ni): Array3<T> {
  const [fromI, fromJ, nk] = array.shape;
  if (fromI === ni && fromJ === nj) return array;
  const result: Array3<T> = { data: alike(array.data, ni * nj * nk), shape: [ni, nj, nk] };
  const startOf = (to: number, from: number): number => (to < from ? Math.floor((from - to) / 2) : -Math.floor((to - from) / 2));
  const startI = startOf(ni, fromI);
  const startJ = startOf(nj, fromJ);
  for (let i = Math.max(0, -startI); i < Math.min(ni, fromI - startI); i++)
    for (let j = Math.max(0, -startJ); j < Math.min(nj, fromJ - startJ); j++) {
      const from = ((i + startI) * fromJ + j + startJ) * nk;
      result.data.set(array.data.subarray(from, from + nk), (i * nj + j) * nk);
    }
  return result;
}

/** Bring a result back to the native grid: masks by nearest neighbour (order 0), votes linearly and rounded (1). */
export function restoreToNative(mask: Mask, grid: InPlaneGrid, order: 0 | 1): Mask {
  const [nx, ny] = scaledShape(grid);
  let restored = padOrCrop(mask, nx, ny);
  if (grid.scale !== 1) restored = resizeSlices(restored, orientedShape(grid), order);
  return turnBack(restored, grid);
}

/** Reorder and flip stored axes. */
export function turn<T extends Numbers>(array: Array3<T>, orientation: Orientation): Array3<T> {
  const shape = [0, 0, 0];
  const strides = [0, 0, 0];
  const stored = [array.shape[1] * array.shape[2], array.shape[2], 1];
  let start = 0;
  orientation.forEach(([axis, flip], at) => {
    shape[axis] = array.shape[at];
    strides[axis] = flip * stored[at];
    if (flip < 0) start += (array.shape[at] - 1) * stored[at];
  });
  const data = alike(array.data, array.data.length);
  let n = 0;
  for (let i = 0; i < shape[0]; i++)
    for (let j = 0; j < shape[1]; j++)
      for (let k = 0; k < shape[2]; k++) data[n++] = array.data[start + i * strides[0] + j * strides[1] + k * strides[2]];
  return { data, shape: [shape[0], shape[1], shape[2]] };
}

function turnBack<T extends Numbers>(array: Array3<T>, grid: InPlaneGrid): Array3<T> {
  const inverted: [number, number][] = [];
  grid.orientation.forEach(([axis, flip], stored) => (inverted[axis] = [stored, flip]));
  return turn(array, inverted);
}

function referenceOrientation(volume: Volume): Orientation {
  const found = closestAxes(volume.affine);
  const leftRightAlone = found[0][0] === 0 && found[1][0] === 1 && found[1][1] === 1 && found[2][0] === 2 && found[2][1] === 1;
  return leftRightAlone ? AXIAL : found;
}

/** nibabel's `io_orientation` of an affine without shear: the largest cosine decides first. */
function closestAxes(affine: Affine): Orientation {
  const edges = spacing(affine);
  const taken = new Set<number>();
  const found: [number, number][] = [];
  for (let stored = 0; stored < 3; stored++) {
    const cosines = [0, 1, 2].map((axis) => (taken.has(axis) ? 0 : affine[axis][stored] / edges[stored]));
    const axis = cosines.reduce((best, one, at) => (Math.abs(one) > Math.abs(cosines[best]) ? at : best), 0);
    taken.add(axis);
    found.push([axis, cosines[axis] < 0 ? -1 : 1]);
  }
  return found;
}

/** The orientation after which the axes lie nearest to right, anterior, superior. */
function nearestRas(volume: Volume): Orientation {
  const edges = spacing(volume.affine);
  const cosines = [0, 1, 2].map((row) =>
    [0, 1, 2].map((column) => rint((volume.affine[row][column] / edges[column]) * 1e6) / 1e6 + 0),
  );
  let best: { orientation: Orientation; nearness: number[] } | null = null;
  for (const axes of PERMUTATIONS)
    for (const flips of FLIPS) {
      const orientation = axes.map((axis, stored) => [axis, flips[stored]] as const);
      const turned = [0, 0, 0].map(() => [0, 0, 0]);
      orientation.forEach(([axis, flip], stored) => {
        for (let row = 0; row < 3; row++) turned[row][axis] = cosines[row][stored] * flip;
      });
      const trace = rint((turned[0][0] + turned[1][1] + turned[2][2]) * 1e5) / 1e5;
      const nearness = [trace, ...turned.flat()];
      if (!best || larger(nearness, best.nearness)) best = { orientation, nearness };
    }
  if (!best) throw new Error("no orientation");
  return best.orientation;
}

function larger(a: readonly number[], b: readonly number[]): boolean {
  const at = a.findIndex((value, place) => value !== b[place]);
  return at >= 0 && a[at] > b[at];
}

export const PERMUTATIONS = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
] as const;
const FLIPS = [1, -1].flatMap((i) => [1, -1].flatMap((j) => [1, -1].map((k) => [i, j, k] as const)));

export function multiply(a: Affine, b: Affine): number[][] {
  return a.map((row) => b[0].map((_, column) => row.reduce((total, one, at) => total + one * b[at][column], 0)));
}

/** Of an affine whose last row is 0 0 0 1. */
export function inverse(m: Affine): number[][] {
  const d = determinant(m);
  const cofactor = (row: number, column: number): number => {
    const [r0, r1] = [0, 1, 2].filter((one) => one !== row);
    const [c0, c1] = [0, 1, 2].filter((one) => one !== column);
    return ((row + column) % 2 ? -1 : 1) * (m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0]);
  };
  const linear = [0, 1, 2].map((row) => [0, 1, 2].map((column) => cofactor(column, row) / d));
  const rows = linear.map((row) => [...row, -row.reduce((total, one, at) => total + one * m[at][3], 0)]);
  return [...rows, [0, 0, 0, 1]];
}
