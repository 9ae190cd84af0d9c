/** Is b0 a b0 and b1000 a b1000? Fluid tells (`fvv.imaging.quality.contrast`). */

import { boundingBox, count, crop, emptyMask, type Image, inside, mapped, type Mask, median, minimum, paste, quantile, quantiles, range, rint, type Shape, slice, where } from "../arrays.js";
import { gainFindings, RESCALED, typicalLogDrop } from "../adc.js";
import { SMALL_MAXIMUM } from "../brain.js";
import { finding, type Finding } from "../data.js";
import { fixed, general } from "../format.js";
import { boxSum, distance2d } from "../ndimage.js";
import { B_RANGE, isBroughtToB1000, isUsualB1000, LOG_DROP_NEAR_1000, TARGET_B } from "../protocol.js";
import type { NativeView } from "./view.js";

const EVENED_OVER_MM = 50;
const FLUID_DARK = 0.25;
const SWAPPED_MARGIN = 0.25;
const RING_MM = [4, 18] as const;
const RING_BRIGHT = 0.9;
const FLUID_LOG_DROP = 2.8;
const LOW_TISSUE_DROP = 0.5;
const FLUID_LOG_DROP_MINOR = 2.0;
const DEEP_MM = 10;
const FEWEST_DEEP = 1000;
const PUREST = 0.9;
const BRIGHTEST_SHARE = 0.03;
const LEAST_CONTRAST = 0.25;

export function* statedBValue(view: NativeView): Generator<Finding> {
  if (view.bValue === null || isUsualB1000(view.bValue)) return;
  const acquired = `b1000 was acquired at b = ${general(view.bValue)} s/mm^2`;
  if (isBroughtToB1000(view.bValue))
    yield finding("b-value", `${acquired} and brought to b = 1000 by the ADC of each voxel`, "warning");
  else {
    const message = `${acquired}, expected 1000, or ${B_RANGE[0]} to ${B_RANGE[1]} to be brought to 1000`;
    yield finding("b-value", message, "not assessable");
  }
}

export function* unstatedBValue(view: NativeView): Generator<Finding> {
  const [low, high] = LOG_DROP_NEAR_1000;
  if (view.bValue !== null || view.prepared.findings.some((one) => one.code === RESCALED)) return;
  const typical = typicalLogDrop(view.prepared);
  if (low <= typical && typical <= high) return;
  const message =
    `no file states the b-value of b1000, and the brain's ln(b0/b1000) of ${fixed(typical, 2)} is that of a ` +
    `${typical < low ? "lower" : "higher"} one than 1000, or the two images have different scales: state ` +
    "it with --b-value or a .bval file";
  yield finding("b-value-unstated", message, "warning");
}

/** Same image twice, a phantom, files swapped, an ADC map or FLAIR where b1000 is expected, another b-value. */
export function* kindOfImage(view: NativeView): Generator<Finding> {
  const b0 = inside(view.b0.data, view.core.data);
  const b1000 = inside(view.b1000.data, view.core.data);
  const even = [view.b0, view.b1000].map((image) => evened(image, view));
  // Tissue around large ventricles stands out of a box that they fill: the look that tells more of the two counts.
  const looks = [
    [darkShare(b1000, b0), darkShare(b0, b1000)],
    [darkShare(even[1], even[0]), darkShare(even[0], even[1])],
  ];
  const apart = looks.map(([one, other]) => Math.abs(one - other));
  const [darkOnB1000, darkOnB0] = looks[apart[1] > apart[0] ? 1 : 0];
  if (view.b0.data.every((value, at) => value === view.b1000.data[at]))
    yield finding("same-image", "b0 and b1000 are the same image", "not assessable");
  else if (Math.max(contrast(b0), contrast(b1000)) < LEAST_CONTRAST) {
    const message = "b0 and b1000 are uniform in what was taken for the brain, without fluid and tissue: a phantom?";
    yield finding("uniform", message, "not assessable");
  } else if (darkOnB0 > darkOnB1000 + SWAPPED_MARGIN && ringBrightness(view) < RING_BRIGHT)
    yield finding("swapped", "b0 and b1000 look swapped: fluid is bright on b1000 and dark on b0", "not assessable");
  else if (darkOnB1000 < FLUID_DARK || darkOnB0 > darkOnB1000) {
    const message = "b1000 is no diffusion-weighted image: fluid is bright on it, as on an ADC map or a T2-weighted image";
    yield finding("b1000-is-adc", message, "not assessable");
  } else if (ringBrightness(view) > RING_BRIGHT || looksLikeFlair(view)) {
    const message =
      "b1000 is no diffusion-weighted image at b = 1000: fluid or fat look as on FLAIR, or the b-value is much higher";
    yield finding("b1000-is-flair", message, "not assessable");
  }
}

export function* commonGain(view: NativeView): Generator<Finding> {
  yield* gainFindings(view.prepared);
}

/** Of the brightest voxels on one image, the share that is darker than the median of the other. */
function darkShare(on: Float64Array, brightestOf: Float64Array): number {
  const middle = median(on);
  const there = inside(on, brightest(brightestOf));
  return count(where(there, (value) => value < middle)) / there.length;
}

/** Intensities of the core as shares of their mean in a box around each voxel: without the shading of a coil. */
function evened(image: Image, view: NativeView): Float64Array {
  const box = boundingBox(view.core);
  const core = crop(view.core, box);
  const edges = view.spacingMm.map((edge) => Math.max(1, rint(EVENED_OVER_MM / edge))) as unknown as Shape;
  const floor = minimum(image.data);
  const values = mapped(crop(image, box).data, (value, at) => (core.data[at] ? value - floor : 0));
  const sums = inside(boxSum({ data: values, shape: core.shape }, edges), core.data);
  const counts = inside(boxSum({ data: new Float64Array(core.data), shape: core.shape }, edges), core.data);
  return mapped(inside(values, core.data), (value, at) => value / Math.max(sums[at] / counts[at], 2.2250738585072014e-308));
}

function brightest(values: Float64Array): Uint8Array {
  const limit = quantile(values, 1 - BRIGHTEST_SHARE);
  return where(values, (value) => value >= limit);
}

function contrast(values: Float64Array): number {
  const [middle, high] = quantiles(values, [0.5, 0.99]);
  return middle > 0 ? Math.log(high / middle) : Infinity;
}

function looksLikeFlair(view: NativeView): boolean {
  const within = deep(view);
  const [b0, b1000] = [view.b0, view.b1000].map((image) => {
    const floor = minimum(image.data);
    return mapped(inside(image.data, within.data), (value) => value - floor);
  });
  const { tissue, fluid } = logDrops(b0, b1000);
  const bValue = view.bValue !== null && isUsualB1000(view.bValue) ? view.bValue : TARGET_B;
  if (fluid > (FLUID_LOG_DROP * Math.max(bValue, TARGET_B)) / TARGET_B) return true;
  const rescaled = view.prepared.findings.some((one) => one.code === RESCALED);
  const oneGain = Math.min(range(view.b0.data), range(view.b1000.data)) >= SMALL_MAXIMUM && !rescaled;
  return oneGain && tissue < LOW_TISSUE_DROP && fluid > FLUID_LOG_DROP_MINOR;
}

/** ln(b0/b1000) of tissue, and that of the purest fluid less it. */
function logDrops(b0: Float64Array, b1000: Float64Array): { tissue: number; fluid: number } {
  const both = where(b0, (value, at) => value > 0 && b1000[at] > 0);
  const first = inside(b0, both);
  if (!first.length) return { tissue: 0, fluid: 0 };
  const second = inside(b1000, both);
  const drop = mapped(first, (value, at) => Math.log(value / second[at]));
  const tissue = median(drop);
  return { tissue, fluid: quantile(inside(drop, brightest(first)), PUREST) - tissue };
}

function deep(view: NativeView): Mask {
  const slices = Array.from(view.sliceAreas.keys()).filter((k) => view.sliceAreas[k] > 0);
  const found = byDistance(view, slices, [1, 1, 0], false, 2 * DEEP_MM, (mm) => mm > DEEP_MM);
  return count(found.data) >= FEWEST_DEEP ? found : view.core;
}

/** How bright b1000 is around the brain, as a share of the brain; 0 where there is nothing around it. */
function ringBrightness(view: NativeView): number {
  const ring = byDistance(view, view.innerSlices, view.voxels(RING_MM[1]), true, RING_MM[1], (mm) => mm > RING_MM[0] && mm < RING_MM[1]);
  const floor = minimum(view.b1000.data);
  const tissue = median(inside(view.b1000.data, view.core.data)) - floor;
  if (!count(ring.data) || tissue <= 0) return 0;
  return (quantile(inside(view.b1000.data, ring.data), 0.95) - floor) / tissue;
}

/** Voxels of some slices by their distance from the brain's rim, inside or outside it, which is measured up to `most`. */
function byDistance(
  view: NativeView,
  slices: readonly number[],
  room: readonly [number, number, number],
  outside: boolean,
  most: number,
  rule: (mm: number) => boolean,
): Mask {
  const result = emptyMask(view.brain.shape);
  const [i, j] = boundingBox(view.brain, room);
  const edges = [view.spacingMm[0], view.spacingMm[1]] as const;
  for (const k of slices) {
    const box = [i, j, [k, k + 1]] as const;
    const part = slice(crop(view.brain, box), 0);
    const mask = outside ? where(part, (one) => !one) : part;
    const [ni, nj] = [i[1] - i[0], j[1] - j[0]];
    const found = where(distance2d(mask, ni, nj, edges, most), rule);
    paste({ data: found, shape: [ni, nj, 1] }, box, result);
  }
  return result;
}
