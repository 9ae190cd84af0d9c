/** How far this patient lies from those the models were trained on (`fvv.imaging.quality.usual`). */

import { count, inside, median, quantiles, where } from "../arrays.js";
import { finding, type Finding, type PreparedCase } from "../data.js";
import { general } from "../format.js";
import { gridSpacing, voxelVolumeMl } from "../geometry.js";
import type { NativeView } from "./view.js";

const MARGIN = 0.25;
const NAMES: Readonly<Record<string, string>> = {
  b0_fluid: "fluid on b0 (99th percentile, z)",
  b1000_bright: "brightest tissue on b1000 (99th percentile, z)",
  b0_dark: "darkest tissue on b0 (5th percentile, z)",
  b1000_dark: "darkest tissue on b1000 (5th percentile, z)",
  background: "b1000 outside the brain (median, z)",
  slice_spacing_mm: "slice spacing (mm)",
  brain_ml: "brain volume (mL)",
};

/** What a patient looks like to the network, in a few numbers. */
function usualFeatures({ b0, b1000, brain, grid }: PreparedCase): Record<string, number> {
  const [[b0Dark, b0Fluid], [b1000Dark, b1000Bright]] = [b0, b1000].map((image) => quantiles(inside(image.data, brain.data), [0.05, 0.99]));
  const outside = inside(b1000.data, where(brain.data, (one) => !one));
  return {
    b0_fluid: b0Fluid,
    b1000_bright: b1000Bright,
    b0_dark: b0Dark,
    b1000_dark: b1000Dark,
    background: outside.length ? median(outside) : 0,
    slice_spacing_mm: gridSpacing(grid)[2],
    brain_ml: count(brain.data) * voxelVolumeMl(grid),
  };
}

/** A warning for each feature outside the training cohort's range. */
export function* unlikeTraining(view: NativeView): Generator<Finding> {
  if (!Object.keys(view.usualRange).length) return;
  for (const [name, value] of Object.entries(usualFeatures(view.prepared))) {
    const known = view.usualRange[name];
    if (!known) continue;
    const [low, high] = known;
    const allowed = MARGIN * (high - low);
    if (low - allowed <= value && value <= high + allowed) continue;
    const message = `unlike the training cohort: ${NAMES[name]} is ${general(value, 4)}, its range is ${general(low, 4)} to ${general(high, 4)}`;
    yield finding("unlike-training", message, "warning");
  }
}
