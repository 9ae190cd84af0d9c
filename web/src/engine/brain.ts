/** Brain masks from b0 and b1000 (`fvv.imaging.brain`). */

import { boundingBox, combine, crop, emptyMask, type Image, inside, mapped, type Mask, maximum, median, minimum, paste, quantile, rint, where } from "./arrays.js";
import { median3x3x3 } from "./median.js";
import { CROSS, dilate, fillHoles, label, labelSizes, TOUCHING } from "./ndimage.js";

const MEDIAN_PASSES = 4;
export const SMALL_MAXIMUM = 10;
const CAP_OVER_MEDIAN = 1.5;
const CAPPED_MAXIMUM = 1000;
const OTSU_BINS = 256;
const BRIGHTEST_SHARE = 95 / 100;

/** The reference's mask: median Otsu on both images, intersected and tidied; empty where the images gave nothing. */
export function otsuMask(b0: Image, b1000: Image): Mask {
  const mask = largestComponent(combine(medianOtsu(b0), medianOtsu(b1000), (a, b) => a & b));
  const result: Mask = { data: mask.data.slice(), shape: mask.shape };
  const around = boundingBox(result, [1, 1, 1]);
  paste(fillHoles(dilate(crop(result, around), CROSS)), around, result);
  for (const { data } of [b0, b1000]) {
    if (minimum(data) < 0) continue;
    const raw = maximum(data) >= SMALL_MAXIMUM;
    for (let at = 0; at < data.length; at++) if (raw ? data[at] < 1 : data[at] <= 0) result.data[at] = 0;
  }
  return result;
}

/** The same, but blind to how bright the brightest tissue is and to the scale. */
export function robustMask(b0: Image, b1000: Image): Mask {
  return otsuMask(capped(b0), capped(b1000));
}

/** Voxels touching by face, edge or corner; of equals the first in memory order. */
export function largestComponent(mask: Mask): Mask {
  const box = boundingBox(mask);
  const labels = label(crop(mask, box), TOUCHING);
  if (labels.n <= 1) return mask;
  const sizes = labelSizes(labels);
  sizes[0] = 0;
  const largest = sizes.indexOf(maximum(sizes));
  const result = emptyMask(mask.shape);
  paste({ data: where(labels.data, (one) => one === largest), shape: labels.shape }, box, result);
  return result;
}

function medianOtsu(image: Image): Mask {
  if (minimum(image.data) === maximum(image.data)) return emptyMask(image.shape);
  const smooth = median3x3x3(image, MEDIAN_PASSES);
  const threshold = otsuThreshold(smooth.data);
  return { data: where(smooth.data, (value) => value > threshold), shape: image.shape };
}

/** The level that separates two classes with the largest variance between them; scikit-image's, with float32 counts. */
export function otsuThreshold(values: Float64Array): number {
  const lowest = minimum(values);
  const highest = maximum(values);
  if (lowest === highest) return lowest;
  const step = (highest - lowest) / OTSU_BINS;
  const edges = Float64Array.from({ length: OTSU_BINS + 1 }, (_, at) => at * step + lowest);
  edges[OTSU_BINS] = highest;
  const counts = new Float32Array(OTSU_BINS);
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    let bin = Math.trunc(((value - lowest) / (highest - lowest)) * OTSU_BINS);
    if (bin === OTSU_BINS) bin--;
    if (value < edges[bin]) bin--;
    else if (value >= edges[bin + 1] && bin !== OTSU_BINS - 1) bin++;
    counts[bin]++;
  }
  const centres = Float64Array.from({ length: OTSU_BINS }, (_, at) => (edges[at] + edges[at + 1]) / 2);
  const below = new Float32Array(OTSU_BINS);
  const above = new Float32Array(OTSU_BINS);
  const meanBelow = new Float64Array(OTSU_BINS);
  const meanAbove = new Float64Array(OTSU_BINS);
  let total = 0;
  let weighted = 0;
  for (let at = 0; at < OTSU_BINS; at++) {
    total = Math.fround(total + counts[at]);
    weighted += counts[at] * centres[at];
    below[at] = total;
    meanBelow[at] = weighted / total;
  }
  total = weighted = 0;
  for (let at = OTSU_BINS - 1; at >= 0; at--) {
    total = Math.fround(total + counts[at]);
    weighted += counts[at] * centres[at];
    above[at] = total;
    meanAbove[at] = weighted / total;
  }
  let best = 0;
  let most = -Infinity;
  for (let at = 0; at < OTSU_BINS - 1; at++) {
    const apart = meanBelow[at] - meanAbove[at + 1];
    const between = Math.fround(below[at] * above[at + 1]) * (apart * apart);
    if (between > most) {
      most = between;
      best = at;
    }
  }
  return centres[best];
}

/** From 0 to 1000, where 1000 is 1.5 times the foreground's median; what is brighter is cut to that level. */
function capped(image: Image): Image {
  const lowest = minimum(image.data);
  const shifted = mapped(image.data, (value) => value - lowest);
  if (!maximum(shifted)) return { data: shifted, shape: image.shape };
  let level = quantile(shifted, BRIGHTEST_SHARE);
  if (level === 0) level = median(inside(shifted, where(shifted, (value) => value > 0)));
  const compressed = mapped(shifted, (value) => Math.sqrt(Math.min(value, level)));
  const threshold = otsuThreshold(compressed);
  const foreground = inside(shifted, where(compressed, (value) => value > threshold));
  const cap = CAP_OVER_MEDIAN * median(foreground);
  return { data: mapped(shifted, (value) => rint(Math.min(value / cap, 1) * CAPPED_MAXIMUM)), shape: image.shape };
}
