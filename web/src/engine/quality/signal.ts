/** The numbers stored: are they there, fine enough, and over the noise? (`fvv.imaging.quality.signal`) */

import { boundingBox, combine, count, crop, deviation, distinct, emptyMask, finite, type Image, inside, mapped, type Mask, maximum, median, minimum, slice, where } from "../arrays.js";
import { type Case, finding, type Finding, MaskError, type Volume } from "../data.js";
import { fixed, general, percent } from "../format.js";
import { correlate3x3, dilate, erode, fillHoles, IN_PLANE, label, type Labels, TOUCHING } from "../ndimage.js";
import type { NativeView } from "./view.js";

const NOT_FINITE_SHARE = 1e-3;
const TOUCHED_SHARE = 0.05;
const FEWEST_LEVELS = 32;
const SATURATED_SHARE = 0.005;
const SPIKE = 100;
const BRIGHTEST_TISSUE = 30;
const WIDENED = 1.1;
const USELESS_WIDENED = 1.4;
const LOWEST_SNR = 6.0;
const USELESS_SNR = 2.5;
const NOISE_KERNEL = [1, -2, 1, -2, 4, -2, 1, -2, 1];

/** Fill voxels without a number by 0, or by the image's lowest where that is negative, and say which they were. */
export function withoutGaps(examination: Case): { filled: Case; gaps: Mask } {
  const { b0, b1000 } = examination;
  const gaps = emptyMask(b0.image.shape);
  for (let at = 0; at < gaps.data.length; at++)
    gaps.data[at] = Number.isFinite(b0.image.data[at]) && Number.isFinite(b1000.image.data[at]) ? 0 : 1;
  if (!count(gaps.data)) return { filled: examination, gaps };
  return { filled: { ...examination, b0: fill(b0, "b0"), b1000: fill(b1000, "b1000") }, gaps };
}

function fill(volume: Volume, name: string): Volume {
  const { data, shape } = volume.image;
  const lowest = minimum(finite(data));
  if (lowest === Infinity) throw new MaskError(`${name} holds no finite number`);
  const instead = Math.min(0, lowest);
  const filled = data.map((value) => (Number.isFinite(value) ? value : instead));
  return { image: { data: filled, shape }, affine: volume.affine };
}

export function* missingNumbers(view: NativeView): Generator<Finding> {
  const total = count(view.notFinite.data);
  if (!total) return;
  const within = count(gapsInBrain(view).data);
  const share = within / count(view.brain.data);
  const message =
    `${total} voxels were not finite (NaN or infinite), ${within} of them in the brain or in patches at it ` +
    `(${percent(share, 2)} of its volume); they are replaced by 0, or by the lowest value`;
  yield finding("not-finite", message, share > NOT_FINITE_SHARE ? "not assessable" : "warning");
}

export function* greyLevels(view: NativeView): Generator<Finding> {
  for (const [name, image] of [
    ["b0", view.b0],
    ["b1000", view.b1000],
  ] as const) {
    const core = inside(image.data, view.core.data);
    const highest = maximum(core);
    const levels = distinct(core, FEWEST_LEVELS);
    const saturated = count(where(core, (value) => value === highest)) / core.length;
    if (levels < FEWEST_LEVELS)
      yield finding(
        "intensity-range",
        `${name} has only ${levels} different values in the brain: converted through a picture format?`,
        "not assessable",
      );
    else if (saturated > SATURATED_SHARE)
      yield finding(
        "intensity-range",
        `${name} is cut off at its highest value ${general(highest)} in ${percent(saturated, 1)} of the brain`,
        "warning",
      );

    const floor = minimum(image.data);
    const values = mapped(inside(image.data, view.brain.data), (value) => value - floor);
    const typical = median(values);
    const tissue = inside(values, where(values, (value) => value <= BRIGHTEST_TISSUE * typical));
    if (typical <= 0 || !(deviation(tissue) > 0)) continue;
    const ratio = maximum(values) / typical;
    const widened = deviation(values) / deviation(tissue);
    if (ratio > SPIKE || widened > WIDENED) {
      const message =
        `${name} has ${values.length - tissue.length} voxels over ${BRIGHTEST_TISSUE} times the brain's median, up ` +
        `to ${general(ratio, 3)} times; they widen the brain's range of values ${fixed(widened, 2)} times`;
      yield finding("spike", message, widened > USELESS_WIDENED ? "not assessable" : "warning");
    }
  }
}

export function* noise(view: NativeView): Generator<Finding> {
  const snr = signalToNoise(view.b1000, view.core);
  if (snr < LOWEST_SNR) {
    const message = `b1000 is noisy: the brain's signal is ${fixed(snr, 1)} times the noise`;
    yield finding("noise", message, snr < USELESS_SNR ? "not assessable" : "warning");
  }
}

/** Median over the brain, above the image's lowest value, over the noise's deviation. */
function signalToNoise(image: Image, brain: Mask): number {
  const box = boundingBox(brain, [1, 1, 0]);
  const residue = inside(correlate3x3(crop(image, box), NOISE_KERNEL), crop(brain, box).data);
  const spread = median(mapped(residue, Math.abs)) / 0.6745 / 6;
  const signal = median(inside(image.data, brain.data)) - minimum(image.data);
  return spread > 0 ? signal / spread : Infinity;
}

/** Gaps inside the mask, and whole islands of them at the mask that are not the background. */
function gapsInBrain(view: NativeView): Mask {
  const islands = label(view.notFinite, IN_PLANE);
  const near = new Set(inside(islands.data, dilate(view.brain, TOUCHING).data));
  const sliceOf = new Map<number, number>();
  const nk = view.brain.shape[2];
  for (let at = 0; at < islands.data.length; at++)
    if (islands.data[at] && !sliceOf.has(islands.data[at])) sliceOf.set(islands.data[at], at % nk);
  const lost = new Set<number>();
  for (const one of near) if (one && !isBackground(islands, one, sliceOf.get(one) ?? 0, view)) lost.add(one);
  return {
    data: where(view.notFinite.data, (gap, at) => gap && (view.core.data[at] || lost.has(islands.data[at]))),
    shape: view.brain.shape,
  };
}

/** It surrounds most of its slice's brain; or it reaches the image's edge and hardly touches the brain. */
function isBackground(islands: Labels, one: number, k: number, view: NativeView): boolean {
  const [ni, nj] = view.brain.shape;
  const flat = (data: Uint8Array): Mask => ({ data, shape: [ni, nj, 1] });
  const island = flat(where(slice(islands, k), (value) => value === one));
  const gaps = slice(view.notFinite, k);
  const brain = flat(slice(view.brain, k).map((value, at) => (value && !gaps[at] ? 1 : 0)));
  const atEdge = island.data.some((value, at) => {
    const i = Math.floor(at / nj);
    const j = at % nj;
    return value > 0 && (i === 0 || j === 0 || i === ni - 1 || j === nj - 1);
  });
  if (!count(brain.data)) return atEdge;
  const rim = combine(brain, erode(brain, IN_PLANE), (a, b) => a && !b);
  const touched = count(combine(rim, dilate(island, IN_PLANE), (a, b) => a && b).data) / count(rim.data);
  const surrounded = combine(fillHoles(island, true), island, (a, b) => a && !b);
  const share = count(combine(surrounded, brain, (a, b) => a && b).data) / count(brain.data);
  return share > 0.5 || (atEdge && touched <= TOUCHED_SHARE);
}
