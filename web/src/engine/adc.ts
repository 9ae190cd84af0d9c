/** Apparent diffusion coefficient (`fvv.imaging.adc`). */

import { finite, type Image, inside, mapped, type Mask, mean, median, quantile, where } from "./arrays.js";
import { type Finding, finding, FvvError, type PreparedCase } from "./data.js";
import { fixed, general } from "./format.js";
import { mean3x3 } from "./ndimage.js";
import { TARGET_B, TYPICAL_LOG_DROP, USUAL_LOG_DROP } from "./protocol.js";

const HIGHEST = 4e-3;
export const NO_COMMON_GAIN = "no-common-gain";
export const RESCALED = "rescaled";
const WATER = 3.0e-3;
const MORE_THAN_TISSUE = 1.3;
const TISSUE = 0.25;
const FAINTEST = 0.01;
const SMOOTHED_VOXELS = 9;

/** ADC in mm^2/s, up to 4e-3; NaN where an image holds no signal, or b1000 is no darker. */
export function adcMap(b0: Image, b1000: Image, bValue: number): Image {
  const data = mapped(b0.data, (first, at) => {
    const second = b1000.data[at];
    return first > second && second > 0 ? Math.min(Math.log(first / second) / bValue, HIGHEST) : NaN;
  });
  return { data, shape: b0.shape };
}

/** A diffusion image as it would look at b = 1000; what drops by more than tissue holds fluid. */
export function atB1000(b0: Image, image: Image, bValue: number): Image {
  const water = bValue * WATER;
  const most = bValue > TARGET_B ? Math.min(MORE_THAN_TISSUE * usualDrop(b0.data, image.data), water) : Infinity;
  const ratio = TARGET_B / bValue;
  const data = mapped(image.data, (second, at) => {
    const start = b0.data[at];
    if (!(start > 0 && second > 0)) return second;
    const drop = Math.log(start / second);
    let brought = start * Math.exp(-ratio * Math.min(drop, most));
    if (most < water) {
      const excess = Math.exp(most - drop) - Math.exp(most - water);
      const tissue = Math.min(Math.max(excess / (1 - Math.exp(most - water)), 0), 1);
      brought = tissue * brought + (1 - tissue) * start * Math.exp(-TARGET_B * WATER);
    }
    return bValue < TARGET_B ? Math.min(brought, second) : brought;
  });
  return { data, shape: image.shape };
}

function usualDrop(b0: Float64Array, image: Float64Array): number {
  const over = Math.max(mean(b0), 0);
  const head = where(b0, (value, at) => value > over && image[at] > 0);
  const before = inside(b0, head);
  const after = inside(image, head);
  if (!before.length) return Infinity;
  const least = TISSUE * median(after);
  const tissue = where(after, (value) => value > least);
  const denominators = inside(after, tissue);
  return median(inside(before, tissue).map((value, at) => Math.log(value / denominators[at])));
}

/** Median and 10th percentile (10^-6 mm^2/s) in the stroke, and the median over that of the brain outside it. */
export function lesionAdc(adc: Image, stroke: Mask, brain: Mask): [number, number, number] | null {
  const within = inside(adc.data, stroke.data);
  const measured = finite(within);
  const outside = finite(inside(adc.data, where(brain.data, (one, at) => one && !stroke.data[at])));
  const usual = median(outside);
  if (!measured.length || 2 * measured.length < within.length || !(usual > 0)) return null;
  const middle = median(measured);
  return [middle * 1e6, quantile(measured, 0.1) * 1e6, middle / usual];
}

/** ln(b0/b1000) of the voxels of a mask, from the z-scores; NaN where an image holds no signal. */
export function logDrop(prepared: PreparedCase, within: Mask): Float64Array {
  const [b0, b1000] = (
    [
      [prepared.b0, prepared.b0Scale],
      [prepared.b1000, prepared.b1000Scale],
    ] as const
  ).map(([image, scale]) =>
    mapped(new Float64Array(inside(image.data, within.data)), (z) => z * scale.deviation + scale.mean),
  );
  const faintest = [prepared.b0Scale, prepared.b1000Scale].map((scale) => FAINTEST * scale.mean);
  return mapped(b0, (value, at) => (value > faintest[0] && b1000[at] > faintest[1] ? Math.log(value / b1000[at]) : NaN));
}

const typicalLogDrops = new WeakMap<PreparedCase, number>();

/** Median ln(b0/b1000) of the brain mask; 0 where nothing can be measured. Computed once for each examination. */
export function typicalLogDrop(prepared: PreparedCase): number {
  let typical = typicalLogDrops.get(prepared);
  if (typical === undefined) {
    const measured = finite(logDrop(prepared, prepared.brain));
    typical = measured.length ? median(measured) : 0;
    typicalLogDrops.set(prepared, typical);
  }
  return typical;
}

/** ADC over the brain's median ADC, averaged over 3 x 3 voxels in plane; null where the images share no gain. */
export function relativeAdc(prepared: PreparedCase, brain: Mask): Image | null {
  if (gainFindings(prepared).length) return null;
  const { drop, usual } = smoothedLogDrop(prepared, brain);
  return usual > 0 ? { data: mapped(drop.data, (value) => value / usual), shape: brain.shape } : null;
}

/** What `relativeAdc` gives if the brain's median ADC is normal, for b0 and b1000 of different scales. */
export function assumedRelativeAdc(prepared: PreparedCase, brain: Mask): Image {
  const { drop, usual } = smoothedLogDrop(prepared, brain);
  return { data: mapped(drop.data, (value) => 1 + (value - usual) / TYPICAL_LOG_DROP), shape: brain.shape };
}

/** ln(b0/b1000) averaged over 3 x 3 voxels of the brain, NaN outside it and where no signal is near; its median. */
function smoothedLogDrop(prepared: PreparedCase, brain: Mask): { drop: Image; usual: number } {
  const within = logDrop(prepared, brain);
  const drop = new Float64Array(brain.data.length);
  const measured = new Float64Array(brain.data.length);
  for (let at = 0, n = 0; at < drop.length; at++)
    if (brain.data[at]) {
      const value = within[n++];
      if (Number.isFinite(value)) {
        drop[at] = value;
        measured[at] = 1;
      }
    }
  const near = mean3x3({ data: measured, shape: brain.shape }).data;
  const smoothed = mean3x3({ data: drop, shape: brain.shape }).data;
  for (let at = 0; at < drop.length; at++)
    smoothed[at] = brain.data[at] && near[at] > 0.5 / SMOOTHED_VOXELS ? smoothed[at] / near[at] : NaN;
  const known = inside(smoothed, where(measured, Boolean));
  return { drop: { data: smoothed, shape: brain.shape }, usual: known.length ? median(known) : 0 };
}

/** Do b0 and b1000 share one gain? Where they do not, no ADC is given. */
export function gainFindings(prepared: PreparedCase): Finding[] {
  const typical = typicalLogDrop(prepared);
  const [low, high] = USUAL_LOG_DROP;
  let why = "";
  if (prepared.findings.some((one) => one.code === RESCALED)) why = "each was rescaled separately";
  else if (!(low <= typical && typical <= high))
    why = `ln(b0/b1000) is ${fixed(typical, 2)}, expected ${general(low)} to ${general(high)}`;
  if (!why) return [];
  return [finding(NO_COMMON_GAIN, `b0 and b1000 have different intensity scales (${why}); ADC not computed`, "note")];
}


const UNITS: readonly (readonly [string, number])[] = [
  ["mm^2/s", 1],
  ["10^-3 mm^2/s", 1e-3],
  ["10^-6 mm^2/s", 1e-6],
];

/** The b0 that gives this b1000 and this ADC map, and the unit the map is taken to be in: told by its size in tissue. */
export function b0FromAdc(b1000: Image, adc: Image, bValue: number): { image: Image; unit: string } {
  const usual = mean(b1000.data);
  const head = where(b1000.data, (value, at) => value > usual && adc.data[at] > 0);
  const within = inside(adc.data, head);
  const typical = within.length ? median(within) : 0;
  for (const [unit, size] of UNITS)
    if (0.2e-3 < typical * size && typical * size < 2e-3) {
      const data = b1000.data.map((value, at) => value * Math.exp(bValue * Math.min(Math.max(adc.data[at] * size, 0), HIGHEST)));
      return { image: { data, shape: b1000.shape }, unit };
    }
  throw new FvvError(`no ADC map: its median in the head is ${general(typical)}, expected about 0.0007 mm^2/s, 0.7 or 700 of its parts`);
}
