/** Do b0 and b1000 show the head at one place? Mutual information tells (`fvv.imaging.quality.alignment`). */

import { type Array3, boundingBox, crop, type Image, inside, type Mask, maximum, placesOf, quantiles, rint, type Shape } from "../arrays.js";
import { finding, type Finding } from "../data.js";
import { fixed } from "../format.js";
import { gaussian } from "../ndimage.js";
import type { NativeView } from "./view.js";

const MISALIGNED_MM = 3;
const FARTHEST_MM = 10;
const STEP_MM = 2;
const LEVELS = 24;
const MOST_POINTS = 8000;
const FEWEST_POINTS = 500;
const MARGIN = 0.02;

type Levels = Array3<Uint8Array>;

export function* displacement(view: NativeView): Generator<Finding> {
  const displaced = displacementMm(view);
  if (displaced >= MISALIGNED_MM) {
    const message = `b0 and b1000 are displaced against each other by ${fixed(displaced, 1)} mm: the patient moved between them`;
    yield finding("misaligned", message, "warning");
  }
}

/** How far b1000 is displaced against b0, mm: the largest shift of the brain, or of a half where it is turned. */
function displacementMm(view: NativeView): number {
  const around = boundingBox(view.core, view.voxels(FARTHEST_MM));
  const core = crop(view.core, around);
  const points = placesOf(core.data);
  const b0 = levelsOf(crop(view.b0, around), core);
  const b1000 = levelsOf(crop(view.b1000, around), core);
  // No farther than the image is wide: the edges of a wrong header may be micrometres.
  const edges = view.spacingMm.map((edge, axis) => Math.max(edge, FARTHEST_MM / view.brain.shape[axis]));
  const step = edges.map((edge) => Math.max(1, rint(STEP_MM / edge)));
  const reach = edges.map((edge, axis) => rint(FARTHEST_MM / (edge * step[axis])));
  reach[2] = Math.min(Math.max(reach[2], 2), Math.floor((view.brain.shape[2] - 1) / 2));
  const along = reach.map((far, axis) => steps(far, step[axis]));
  const farthest = along.map((one) => -one[0]) as unknown as Shape;
  const whole = best(along, farthest, b0, b1000, points);
  const shifts = [whole];
  const flat = [along[0], along[1], [rint(whole[2])]];
  for (const axis of [0, 1]) {
    const layers = points.map((at) => voxelAt(at, core.shape)[axis]);
    const middle = layers.reduce((total, one) => total + one, 0) / layers.length;
    const halves = [true, false].map((side) => best(flat, farthest, b0, b1000, points.filter((_, at) => layers[at] < middle === side)));
    const together = (halves[0][axis] + halves[1][axis]) / 2;
    for (const half of halves) {
      half[axis] = together;
      half[2] = whole[2];
      shifts.push(half);
    }
  }
  return Math.max(...shifts.map((shift) => Math.hypot(...shift.map((one, axis) => one * view.spacingMm[axis]))));
}

function steps(far: number, by: number): number[] {
  return Array.from({ length: 2 * far + 1 }, (_, at) => (at - far) * by);
}

/** Voxels: the shift with which the two tell most of each other, between the steps by a parabola. */
function best(along: readonly number[][], farthest: Shape, b0: Levels, b1000: Levels, all: Int32Array): number[] {
  if (all.length < FEWEST_POINTS) return [0, 0, 0];
  const every = Math.ceil(all.length / MOST_POINTS);
  const points = all.filter((_, at) => at % every === 0);
  const [ni, nj, nk] = b0.shape;
  const there = Uint8Array.from(points, (at) => b0.data[at]);
  // Beyond the image lies its edge: the padded image, one index a voxel.
  const padded = [ni + 2 * farthest[0], nj + 2 * farthest[1], nk + 2 * farthest[2]];
  const values = padEdge(b1000, farthest);
  const places = points.map((at) => {
    const [i, j, k] = voxelAt(at, b0.shape);
    return ((i + farthest[0]) * padded[1] + j + farthest[1]) * padded[2] + k + farthest[2];
  });
  const lengths = along.map((one) => one.length);
  const information = new Float64Array(lengths[0] * lengths[1] * lengths[2]);
  let n = 0;
  for (const di of along[0])
    for (const dj of along[1])
      for (const dk of along[2])
        information[n++] = mutualInformation(there, values, places, (di * padded[1] + dj) * padded[2] + dk);
  const at = (i: number, j: number, k: number): number => (i * lengths[1] + j) * lengths[2] + k;
  const middle = lengths.map((length) => Math.floor(length / 2));
  let top = information.indexOf(maximum(information));
  const centre = at(middle[0], middle[1], middle[2]);
  if (information[top] <= information[centre] * (1 + MARGIN)) top = centre;
  const k = top % lengths[2];
  const rest = (top - k) / lengths[2];
  const place = [Math.floor(rest / lengths[1]), rest % lengths[1], k];
  const strides = [lengths[1] * lengths[2], lengths[2], 1];
  return place.map((here, axis) => {
    const line = along[axis];
    if (!(here > 0 && here < line.length - 1)) return line[here];
    const [before, now, after] = [top - strides[axis], top, top + strides[axis]].map((one) => information[one]);
    const curvature = before - 2 * now + after;
    const between = curvature < 0 ? (0.5 * (before - after)) / curvature : 0;
    return line[here] + (line[1] - line[0]) * Math.min(Math.max(between, -0.5), 0.5);
  });
}

function mutualInformation(a: Uint8Array, values: Uint8Array, places: Int32Array, shift: number): number {
  const joint = new Float64Array(LEVELS * LEVELS);
  for (let at = 0; at < a.length; at++) joint[a[at] * LEVELS + values[places[at] + shift]]++;
  const first = new Float64Array(LEVELS);
  const second = new Float64Array(LEVELS);
  for (let at = 0; at < joint.length; at++) {
    joint[at] /= a.length;
    first[Math.floor(at / LEVELS)] += joint[at];
    second[at % LEVELS] += joint[at];
  }
  let total = 0;
  for (let at = 0; at < joint.length; at++)
    if (joint[at] > 0) total += joint[at] * Math.log(joint[at] / (first[Math.floor(at / LEVELS)] * second[at % LEVELS]));
  return total;
}

function padEdge(levels: Levels, by: Shape): Uint8Array {
  const [ni, nj, nk] = levels.shape;
  const held = (at: number, n: number): number => Math.min(Math.max(at, 0), n - 1);
  const result = new Uint8Array((ni + 2 * by[0]) * (nj + 2 * by[1]) * (nk + 2 * by[2]));
  let n = 0;
  for (let i = -by[0]; i < ni + by[0]; i++)
    for (let j = -by[1]; j < nj + by[1]; j++)
      for (let k = -by[2]; k < nk + by[2]; k++) result[n++] = levels.data[(held(i, ni) * nj + held(j, nj)) * nk + held(k, nk)];
  return result;
}

/** Grey levels 0 ... 23, equally many brain voxels in each; a little blurred, so that noise does not decide. */
function levelsOf(image: Image, core: Mask): Levels {
  const smooth = gaussian({ data: new Float32Array(image.data), shape: image.shape }, [1, 1, 0]).data;
  const sample = inside(smooth, core.data).filter((_, at) => at % 8 === 0);
  const bounds = quantiles(sample, Array.from({ length: LEVELS - 1 }, (_, at) => (at + 1) / LEVELS));
  const data = new Uint8Array(smooth.length);
  for (let at = 0; at < data.length; at++) {
    let low = 0;
    for (let high = bounds.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (bounds[middle] < smooth[at]) low = middle + 1;
      else high = middle;
    }
    data[at] = low;
  }
  return { data, shape: image.shape };
}

function voxelAt(at: number, [, nj, nk]: Shape): [number, number, number] {
  const row = Math.floor(at / nk);
  return [Math.floor(row / nj), row % nj, at % nk];
}
