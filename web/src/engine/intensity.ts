/** Intensities: z-scores inside the brain (`fvv.imaging.intensity`). */

import { deviation, type Image, type Image32, inside, isClose, mapped, type Mask, mean, median, range, where } from "./arrays.js";
import { MaskError, type SignalScale } from "./data.js";

const MAD_TO_SD = 1.4826;
const OUTLIER_DEVIATIONS = 3;

/** Were two images rescaled one by one? A scanner's own never span the very same range. */
export const sameRange = (b0: Image, b1000: Image): boolean => isClose(range(b0.data), range(b1000.data));

/** The voxels whose mean and deviation set the scale. */
export function referenceVoxels(b1000: Image, brain: Mask, outlierRobust: boolean): Mask {
  if (!outlierRobust) return brain;
  const values = inside(b1000.data, brain.data);
  const middle = median(values);
  const spread = MAD_TO_SD * median(mapped(values, (value) => Math.abs(value - middle)));
  const limit = middle + OUTLIER_DEVIATIONS * spread;
  return { data: where(brain.data, (one, at) => one && b1000.data[at] < limit), shape: brain.shape };
}

export function signalScale(image: Image, reference: Mask): SignalScale {
  const values = inside(image.data, reference.data);
  if (!values.length) throw new MaskError("the brain mask is empty, so intensities have no scale");
  const spread = deviation(values);
  if (!(spread > 0)) throw new MaskError("the image is constant inside the brain mask, so intensities have no scale");
  return { mean: mean(values), deviation: spread };
}

/** (image - mean) / deviation, cut to +-clip, rounded as it is stored. */
export function zscore(image: Image, scale: SignalScale, clip: number, dtype: string): Image32 {
  const data = new Float32Array(image.data.length);
  const half = dtype === "float16";
  for (let at = 0; at < data.length; at++) {
    const z = Math.min(Math.max((image.data[at] - scale.mean) / scale.deviation, -clip), clip);
    data[at] = half ? toFloat16(z) : z;
  }
  return { data, shape: image.shape };
}

/** For each exponent from -14: a float64 so large that it holds nothing finer than a float16 of that exponent. */
const LARGE = Float64Array.from({ length: 30 }, (_, at) => 1.5 * 2 ** (52 + at - 14 - 10));

/** The nearest float16, half to even; of numbers under 2^15. */
export function toFloat16(x: number): number {
  const bits = 32 - Math.clz32(Math.abs(x) * 2 ** 14); // Of the whole part.
  const large = LARGE[bits ? bits - 1 : 0];
  return x + large - large;
}
