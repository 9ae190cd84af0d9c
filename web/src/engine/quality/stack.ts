/** The slices: are they axial, all there, close enough, and at one place? (`fvv.imaging.quality.stack`) */

import { type Image, inside, layerCounts, maximum, median, minimum, slice, where } from "../arrays.js";
import { finding, type Finding } from "../data.js";
import { fixed, percent } from "../format.js";
import { type NativeView, places } from "./view.js";

const FEWEST_SLICES = 7;
const TOO_FEW_SLICES = 3;
const THICK_OVER_THIN = 1.5;
const LARGE_GAP_MM = 10;
const USELESS_GAP_MM = 15;
const ALONE_SHARE = 0.05;
const CUT_SLICE_SHARE = 0.6;
const MOTION_MM = 1.5;
const MOST_NAMED = 5;
const DROPOUT = 0.7;

export function* numberOfSlices(view: NativeView): Generator<Finding> {
  const n = view.imagedSlices.length;
  if (n < FEWEST_SLICES) {
    const message = `only ${n} slices with an image; the network looks at ${FEWEST_SLICES}`;
    yield finding("few-slices", message, n < TOO_FEW_SLICES ? "not assessable" : "warning");
  }
}

export function* sliceSpacing(view: NativeView): Generator<Finding> {
  const [dx, dy, dz] = view.spacingMm;
  if (Math.max(dx, dy) > THICK_OVER_THIN * dz) {
    const message = `not axial: voxels are thickest in plane (${fixed(dx, 1)} x ${fixed(dy, 1)} mm, slices every ${fixed(dz, 1)} mm)`;
    yield finding("slice-axis", message, "not assessable");
  } else if (dz > LARGE_GAP_MM) {
    const message = `slices lie ${fixed(dz, 1)} mm apart: lesions between them are not seen`;
    yield finding("slice-gap", message, dz > USELESS_GAP_MM ? "not assessable" : "warning");
  }
}

/** Slices without an image between slices that hold one, and slices anywhere with one of the two images only. */
export function* blankSlices(view: NativeView): Generator<Finding> {
  const { b0, b1000 } = view.imaged;
  const { sliceAreas: areas, imagedSlices: imaged } = view;
  if (!imaged.some((k) => areas[k] > 0)) {
    yield finding("missing-slices", "no slice with brain holds an image", "not assessable");
    return;
  }
  const last = imaged[imaged.length - 1];
  const missing = b0.map((one, k) => k >= imaged[0] && k < last && !(one && b1000[k]));
  const alone = b0.map((one, k) => one !== b1000[k]);
  const either = places(missing, (one, k) => one || alone[k]);
  if (!either.length) return;
  const tissue = [tissueAreas(view.b0, view), tissueAreas(view.b1000, view)];
  const most = maximum(areas);
  const refused = missing.some((one, k) => one || (alone[k] && Math.max(tissue[0][k], tissue[1][k]) > ALONE_SHARE * most));
  const numbers = either.map((k) => k + 1).join(", ");
  const message = `slices without an image inside the stack, or with one of b0 and b1000 only: ${numbers}`;
  yield finding("missing-slices", message, refused ? "not assessable" : "warning");
}

export function* cutEnds(view: NativeView): Generator<Finding> {
  const { imagedSlices: imaged, sliceAreas: areas } = view;
  if (!imaged.length) return;
  const most = maximum(areas);
  for (const [end, area] of [
    ["bottom", areas[imaged[0]]],
    ["top", areas[imaged[imaged.length - 1]]],
  ] as const)
    if (area > CUT_SLICE_SHARE * most) {
      const message = `the slices end inside the brain: the ${end} one holds ${percent(area / most)} of the largest`;
      yield finding("brain-cut-by-slices", message, "warning");
    }
}

/** Noise alone makes two slices differ: one was copied. */
export function* repeatedSlices(view: NativeView): Generator<Finding> {
  const imaged = new Set(view.imagedSlices);
  const pairs = view.imagedSlices
    .slice(0, -1)
    .filter((k) => imaged.has(k + 1) && sameAsNext(view.b0, k) && sameAsNext(view.b1000, k))
    .map((k) => `${k + 1} and ${k + 2}`);
  if (!pairs.length) return;
  const more = pairs.length > MOST_NAMED ? ` and ${pairs.length - MOST_NAMED} more` : "";
  const message = `neighbouring slices are one image: ${pairs.slice(0, MOST_NAMED).join(", ")}${more}: copied, or resampled?`;
  yield finding("repeated-slices", message, "warning");
}

/** Neighbouring slices at different places, slices without signal; where enough slices lie in one row. */
export function* motion(view: NativeView): Generator<Finding> {
  const inner = view.innerSlices;
  if (inner.length < 5 || inner.some((k, at) => at > 0 && k !== inner[at - 1] + 1)) return;
  const typical = Math.max(...[view.b0, view.b1000].map((image) => typicalJumpMm(image, view)));
  if (typical > MOTION_MM)
    yield finding("motion", `motion between slices: neighbours are displaced by ${fixed(typical, 1)} mm (median)`, "warning");
  const floor = minimum(view.b1000.data);
  const level = inner.map((k) => median(inside(slice(view.b1000, k), slice(view.brain, k))) - floor);
  const dark = inner
    .slice(1, -1)
    .filter((_, at) => level[at + 1] / Math.max((level[at] + level[at + 2]) / 2, 1e-12) < DROPOUT)
    .map((k) => k + 1);
  if (dark.length) {
    const message = `b1000 loses signal in slices ${dark.join(", ")}: motion, or a failed excitation`;
    yield finding("signal-dropout", message, "warning");
  }
}

/** Voxels of each slice over half the brain's median. */
function tissueAreas(image: Image, view: NativeView): number[] {
  const floor = minimum(image.data);
  const limit = 0.5 * (median(inside(image.data, view.brain.data)) - floor);
  const over = where(image.data, (value) => value - floor > limit);
  return Array.from(layerCounts({ data: over, shape: image.shape }, 2));
}

/** How far a slice's head lies from the middle of its neighbours', median over slices. */
function typicalJumpMm(image: Image, view: NativeView): number {
  const floor = minimum(image.data);
  const tissue = median(inside(image.data, view.core.data)) - floor;
  const [, nj] = image.shape;
  const centres = view.innerSlices.map((k) => {
    let [weight, i, j] = [0, 0, 0];
    const plane = slice(image, k);
    for (let at = 0; at < plane.length; at++) {
      const head = Math.min(Math.max(plane[at] - floor, 0.3 * tissue), tissue) - 0.3 * tissue;
      weight += head;
      i += head * Math.floor(at / nj);
      j += head * (at % nj);
    }
    weight = Math.max(weight, 1e-12);
    return [(i * view.spacingMm[0]) / weight, (j * view.spacingMm[1]) / weight] as const;
  });
  const jumps = centres
    .slice(1, -1)
    .map((here, at) => Math.max(...[0, 1].map((axis) => Math.abs(here[axis] - (centres[at][axis] + centres[at + 2][axis]) / 2))));
  return median(Float64Array.from(jumps));
}

function sameAsNext({ data, shape }: Image, k: number): boolean {
  for (let at = k; at < data.length; at += shape[2]) if (data[at] !== data[at + 1]) return false;
  return true;
}
