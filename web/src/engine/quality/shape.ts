/** Has the brain the size of one, and does it lie as the affine says? (`fvv.imaging.quality.shape`) */

import { count, layerCounts, type Mask, maximum, placesOf, rint } from "../arrays.js";
import { finding, type Finding } from "../data.js";
import { fixed } from "../format.js";
import { PERMUTATIONS } from "../geometry.js";
import type { NativeView } from "./view.js";

const OPEN_END_SHARE = 0.5;
const SMALLEST_MM = [85, 110, 60];
const LARGEST_MM = [175, 215, 190];
const MIRROR_MARGIN = 0.04;
const FACES_BACK = -0.06;
const UPSIDE_DOWN = 0.05;
const TYPICAL_MM = [120, 155, 120];
const AXES = ["left-right", "front-back", "foot-head"];
const LETTERS = "xyz";
const MOST_POINTS = 2000;
const MANY_POINTS = 40000;
const GOLDEN = (5 ** 0.5 - 1) / 2;
const DIRECTIONS = 100;
const OFFSETS_MM = [-4, 0, 4];

type Triple<T> = [T, T, T];

export function* sizeAndAxes(view: NativeView): Generator<Finding> {
  if (!count(view.brain.data)) return;
  const closed = closedAxes(view.brain);
  const extents = extentsMm(view.brain, view.spacingMm);
  const tooOdd = implausible(extents, closed);
  if (tooOdd) {
    const size = extents.map((extent) => fixed(extent, 0)).join(" x ");
    const message = `no adult brain measures ${size} mm (${AXES.join(", ")}; ${tooOdd}): ${causeOfSize(view, closed)}`;
    yield finding("brain-size", message, "not assessable");
    return;
  }
  const wrong = closed.every(Boolean) ? misplaced(view, extents) : turnedInPlane(view, extents, closed);
  if (wrong) {
    const message =
      `the brain does not lie as the affine says: ${wrong}; the array's axes are probably in another order than ` +
      "the affine's, or run the other way";
    yield finding("head-axes", message, "not assessable");
  }
}

/** For each axis, whether the brain is whole along it: its first and last layer are small. */
export function closedAxes(brain: Mask): Triple<boolean> {
  return [0, 1, 2].map((axis) => {
    const held = layerCounts(brain, axis).filter((area) => area > 0);
    return held.length > 0 && Math.max(held[0], held[held.length - 1]) <= OPEN_END_SHARE * maximum(held);
  }) as Triple<boolean>;
}

/** From the 1st to the 99th percentile of the brain's voxels along each axis. */
function extentsMm(brain: Mask, spacingMm: readonly number[]): Triple<number> {
  return spacingMm.map((edge, axis) => {
    const share = layerCounts(brain, axis);
    for (let at = 1; at < share.length; at++) share[at] += share[at - 1];
    const total = share[share.length - 1];
    const place = (part: number): number => {
      const found = share.findIndex((sum) => sum >= part * total);
      return found < 0 ? share.length : found;
    };
    return (place(0.99) - place(0.01) + 1) * edge;
  }) as Triple<number>;
}

function implausible(extents: readonly number[], closed: readonly boolean[]): string {
  for (let axis = 0; axis < 3; axis++) {
    if (extents[axis] > LARGEST_MM[axis]) return `${AXES[axis]} at most ${fixed(LARGEST_MM[axis], 0)}`;
    if (closed[axis] && closed[2] && extents[axis] < SMALLEST_MM[axis])
      return `${AXES[axis]}, with nothing cut off, at least ${fixed(SMALLEST_MM[axis], 0)}`;
  }
  return "";
}

function causeOfSize(view: NativeView, closed: readonly boolean[]): string {
  const voxels = extentsMm(view.brain, [1, 1, 1]);
  if (view.spacingMm.every((edge) => Math.abs(edge - 1) <= 1e-3 + 1e-5))
    return "the header says 1 x 1 x 1 mm a voxel, probably because a converter lost the true size";
  let best: { unlikeness: number; order: string } | null = null;
  for (const order of PERMUTATIONS) {
    const turned = [0, 0, 0];
    const ends = [true, true, true];
    order.forEach((place, axis) => {
      turned[place] = voxels[axis] * view.spacingMm[place];
      ends[place] = closed[axis];
    });
    if (implausible(turned, ends)) continue;
    const unlikeness = turned.reduce((total, one, axis) => total + Math.log(one / TYPICAL_MM[axis]) ** 2, 0);
    if (!best || unlikeness < best.unlikeness)
      best = { unlikeness, order: order.map((place) => LETTERS[place]).join(", ") };
  }
  if (best) return `the array's axes are probably in the order (${best.order}), the affine's are (x, y, z)`;
  return "the voxel size in the header is probably wrong";
}

function misplaced(view: NativeView, [width, length, height]: Triple<number>): string {
  if (length < Math.max(width, height)) {
    const axis = width > height ? AXES[0] : AXES[2];
    return `it is longer ${axis} (${fixed(Math.max(width, height), 0)} mm) than front-back (${fixed(length, 0)} mm)`;
  }
  const margin = mirrorMargin(view, false);
  if (margin > MIRROR_MARGIN)
    return `its halves do not mirror each other left-right, as they do across another plane (by ${fixed(margin, 2)} Dice)`;
  const { skewness, lowness } = moments(view);
  if (skewness < FACES_BACK) return "it faces backwards";
  return lowness > UPSIDE_DOWN ? "it is upside down" : "";
}

/** Of a slab of axial slices, only this can be told. */
function turnedInPlane(view: NativeView, [width, length]: Triple<number>, closed: readonly boolean[]): string {
  if (!(closed[0] && closed[1]) || width <= length || mirrorMargin(view, true) <= 0) return "";
  return `it is longer left-right (${fixed(width, 0)} mm) than front-back (${fixed(length, 0)} mm), and mirrors front-back`;
}

/** Best share of the brain that a mirror far from the sagittal plane maps onto it, less that of one near it. */
function mirrorMargin(view: NativeView, inPlane: boolean): number {
  const points = brainPlaces(view, MOST_POINTS);
  const centre = meanOf(brainPlaces(view, MANY_POINTS));
  const { data, shape } = view.brain;
  const edges = view.spacingMm;
  let near = 0;
  let far = 0;
  for (const normal of directions(inPlane))
    for (const offset of OFFSETS_MM) {
      let held = 0;
      for (const point of points) {
        const depth = dot(point, normal) - dot(centre, normal) - offset;
        let at = 0;
        for (let axis = 0; axis < 3 && at >= 0; axis++) {
          const place = rint((point[axis] - 2 * depth * normal[axis]) / edges[axis]);
          at = place < 0 || place >= shape[axis] ? -1 : at * shape[axis] + place;
        }
        if (at >= 0 && data[at]) held++;
      }
      const share = held / points.length;
      if (Math.abs(normal[0]) >= Math.SQRT1_2) near = Math.max(near, share);
      else far = Math.max(far, share);
    }
  return far - near;
}

/** Unit vectors, evenly over half a sphere (Fibonacci lattice) and the three axes; or over half a circle. */
function directions(inPlane: boolean): Triple<number>[] {
  if (inPlane)
    return Array.from({ length: 24 }, (_, at) => {
      const angle = (at * 7.5 * Math.PI) / 180;
      return [Math.cos(angle), Math.sin(angle), 0];
    });
  const lattice = Array.from({ length: DIRECTIONS }, (_, at): Triple<number> => {
    const cosine = (at + 0.5) / DIRECTIONS;
    const angle = Math.PI * (1 + 5 ** 0.5) * (at + 0.5);
    const sine = Math.sqrt(1 - cosine * cosine);
    return [sine * Math.cos(angle), sine * Math.sin(angle), cosine];
  });
  return [[1, 0, 0], [0, 1, 0], [0, 0, 1], ...lattice];
}

/** mm, of so many brain voxels evenly chosen, or of all. */
function brainPlaces(view: NativeView, most: number): Triple<number>[] {
  const [, nj, nk] = view.brain.shape;
  const all = placesOf(view.brain.data);
  const few = all.length > most;
  const [dx, dy, dz] = view.spacingMm;
  return Array.from({ length: few ? most : all.length }, (_, n) => {
    const at = all[few ? Math.floor(((n * GOLDEN) % 1) * all.length) : n];
    const k = at % nk;
    const rest = (at - k) / nk;
    const j = rest % nj;
    return [((rest - j) / nj) * dx, j * dy, k * dz];
  });
}

/** Skewness from back to front; and, however the head nods, whether its length lies low (below 0) or high. */
function moments(view: NativeView): { skewness: number; lowness: number } {
  const all = brainPlaces(view, MANY_POINTS);
  const centre = meanOf(all);
  const side = all.map((place) => [place[1] - centre[1], place[2] - centre[2]] as const);
  const average = (rule: (y: number, z: number) => number): number =>
    side.reduce((total, [y, z]) => total + rule(y, z), 0) / side.length;
  const yy = average((y) => y * y);
  const zz = average((_, z) => z * z);
  const yz = average((y, z) => y * z);
  // Axis of the larger eigenvalue of [[yy, yz], [yz, zz]], towards the front.
  const angle = 0.5 * Math.atan2(2 * yz, yy - zz);
  const sign = Math.cos(angle) < 0 ? -1 : 1;
  const [along, up] = [sign * Math.cos(angle), sign * Math.sin(angle)];
  const length = (y: number, z: number): number => y * along + z * up;
  const height = (y: number, z: number): number => -y * up + z * along;
  const spreadY = Math.sqrt(yy);
  const lengthSquared = average((y, z) => length(y, z) ** 2);
  const spreadHeight = Math.sqrt(average((y, z) => height(y, z) ** 2));
  return {
    skewness: average((y) => (y / spreadY) ** 3),
    lowness: average((y, z) => (length(y, z) ** 2 / lengthSquared) * (height(y, z) / spreadHeight)),
  };
}

function meanOf(all: readonly Triple<number>[]): Triple<number> {
  return [0, 1, 2].map((axis) => all.reduce((total, place) => total + place[axis], 0) / all.length) as Triple<number>;
}

const dot = (a: Triple<number>, b: Triple<number>): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
