/** What a reader looks at, as grey levels by one rule for all patients (`fvv.analysis.windows`), turned to RAS. */

import { adcMap, NO_COMMON_GAIN } from "./adc.js";
import { count, emptyMask, finite, type Image, inside, type Mask, mean, median, quantile, type Shape, where } from "./arrays.js";
import type { Case } from "./data.js";
import type { Examined } from "./examine.js";
import { visibleToHalf } from "./fusion.js";
import { orientedSpacing, turn } from "./geometry.js";
import { TARGET_B } from "./protocol.js";

const [WHITE_B1000, WHITE_B0, WHITE_ADC] = [2.5, 3.0, 2.0e-3];
const NEAR_BRAIN_MM = 6.0;
export const WINDOW_RULE =
  `Grey, by one rule for every patient: black is the image's background, white on b1000 ${WHITE_B1000} x (b0 ${WHITE_B0} x) the ` +
  `median of the brain outside the stroke; ADC 0 to ${1e3 * WHITE_ADC} x 10⁻³ mm²/s, black where it cannot be computed and ` +
  `further than ${NEAR_BRAIN_MM} mm from the brain.`;

/** Black and white. */
type Range = readonly [number, number];

export interface Display {
  /** (i, j, k): to the patient's right, to the front, to the head. */
  readonly shape: Shape;
  readonly spacingMm: readonly [number, number, number];
  /** Of b1000, ADC where it was measured, and b0. */
  readonly grey: readonly (readonly [string, Uint8Array])[];
  /** Black and white of the images, in their own values. */
  readonly ranges: { readonly b0: Range | null; readonly b1000: Range | null };
  /** 1: brain, 2: stroke, 4: FLAIR-visible to at least half of the models, 8: to any. */
  readonly masks: Uint8Array;
}

export function displayOf({ b0, b1000, bValue }: Case, { prediction, grid }: Examined): Display {
  const { shape } = b1000.image;
  const { native } = prediction;
  const [brain, stroke] = native ? [native.brain, native.stroke] : [emptyMask(shape), emptyMask(shape)];
  const masks = emptyMask(shape);
  if (native) {
    const half = visibleToHalf(native.votes, prediction.nModels).data;
    for (let at = 0; at < masks.data.length; at++) {
      const any = native.votes.data[at] && stroke.data[at] ? 8 : 0;
      masks.data[at] = brain.data[at] + 2 * stroke.data[at] + 4 * (half[at] & stroke.data[at]) + any;
    }
  }
  const ranges = { b0: tissueRange(b0.image, WHITE_B0, brain, stroke), b1000: tissueRange(b1000.image, WHITE_B1000, brain, stroke) };
  const grey: [string, Uint8Array][] = [["b1000", tissueWindow(b1000.image, ranges.b1000)]];
  const measured = native && !prediction.decision.reasons.some(({ code }) => code === NO_COMMON_GAIN);
  if (measured) grey.push(["ADC", adcWindow(adcMap(b0.image, b1000.image, bValue || TARGET_B), brain, nativeSpacing(grid.nativeAffine))]);
  grey.push(["b0", tissueWindow(b0.image, ranges.b0)]);
  const turned = (data: Uint8Array): Uint8Array => turn({ data, shape }, grid.orientation).data;
  return {
    shape: turn(masks, grid.orientation).shape,
    spacingMm: orientedSpacing(grid),
    ranges,
    grey: grey.map(([name, data]) => [name, turned(data)]),
    masks: turned(masks.data),
  };
}

const nativeSpacing = (affine: readonly (readonly number[])[]): number[] => [0, 1, 2].map((axis) => Math.hypot(...[0, 1, 2].map((row) => affine[row][axis])));

/** Black and white of an image, by its background and the brain's median outside the stroke; null where it shows nothing. */
export function tissueRange(image: Image, white: number, brain: Mask, stroke: Mask): Range | null {
  const values = finite(image.data);
  if (!values.length) return null;
  const sampled = finite(everySecondPlane(image));
  const black = sampled.length ? quantile(sampled, 0.005) : 0;
  const usual = mean(values);
  const within = count(brain.data) ? brain.data : where(image.data, (value) => value > usual);
  const outside = where(within, (one, at) => one && !stroke.data[at]);
  const all = finite(inside(image.data, within));
  const besideStroke = finite(inside(image.data, outside));
  const tissue = 2 * (all.length - besideStroke.length) < all.length ? besideStroke : all;
  const span = tissue.length ? white * (median(tissue) - black) : 0;
  return span > 0 ? [black, black + span] : null;
}

function everySecondPlane({ data, shape: [ni, nj, nk] }: Image): Float64Array {
  const sampled = new Float64Array(Math.ceil(ni / 2) * nj * nk);
  for (let i = 0; i < ni; i += 2) sampled.set(data.subarray(i * nj * nk, (i + 1) * nj * nk), (i / 2) * nj * nk);
  return sampled;
}

function tissueWindow(image: Image, range: Range | null): Uint8Array {
  const grey = new Uint8Array(image.data.length);
  if (range) for (let at = 0; at < grey.length; at++) grey[at] = levelOf((image.data[at] - range[0]) / (range[1] - range[0]));
  return grey;
}

/** 0..255 of a share of white; 0 where it is no number. */
const levelOf = (share: number): number => Math.min(Math.max(Math.floor((Number.isFinite(share) ? share : 0) * 255 + 0.5), 0), 255);

function adcWindow(adc: Image, brain: Mask, spacingMm: readonly number[]): Uint8Array {
  let near = brain;
  spacingMm.forEach((edge, axis) => (near = widened(near, axis, Math.floor(NEAR_BRAIN_MM / edge))));
  const grey = new Uint8Array(adc.data.length);
  for (let at = 0; at < grey.length; at++) if (near.data[at]) grey[at] = levelOf(adc.data[at] / WHITE_ADC);
  return grey;
}

/** A mask that reaches further along one axis. */
function widened(mask: Mask, axis: number, reach: number): Mask {
  const [, nj, nk] = mask.shape;
  const stride = [nj * nk, nk, 1][axis];
  const n = mask.shape[axis];
  const wide = emptyMask(mask.shape);
  for (let at = 0; at < mask.data.length; at++) {
    if (!mask.data[at]) continue;
    const place = Math.floor(at / stride) % n;
    for (let to = Math.max(place - reach, 0); to <= Math.min(place + reach, n - 1); to++) wide.data[at + (to - place) * stride] = 1;
  }
  return wide;
}
