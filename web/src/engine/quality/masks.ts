/** Is the brain mask the brain? (`fvv.imaging.quality.masks`; the checks of ROIs are for labelled examinations.) */

import { combine, count, type Image, inside, type Mask, median, minimum, where } from "../arrays.js";
import { largestComponent } from "../brain.js";
import { finding, type Finding } from "../data.js";
import { fixed, percent } from "../format.js";
import { gridSpacing, orientedShape, voxelVolumeMl } from "../geometry.js";
import { closedAxes } from "./shape.js";
import type { NativeView } from "./view.js";

const BRAIN_VOLUME_BOUNDS_ML = [400, 2500] as const;
const WHOLE_HEAD_MM = 100;
const TISSUE_OVER_MASK = 2;
const MASK_OVER_TISSUE = 1.5;
const EDGE_SHARE = 0.005;

export function* brainVolume(view: NativeView): Generator<Finding> {
  const { brain, grid } = view.prepared;
  const [lower, upper] = BRAIN_VOLUME_BOUNDS_ML;
  let least: number = lower;
  if (!closedAxes(brain)[2]) least *= Math.min(1, (orientedShape(grid)[2] * gridSpacing(grid)[2]) / WHOLE_HEAD_MM);
  const volume = count(brain.data) * voxelVolumeMl(grid);
  if (!(least <= volume && volume <= upper)) {
    const message = `the brain mask holds ${fixed(volume, 0)} mL, expected ${fixed(least, 0)} to ${fixed(upper, 0)} mL`;
    yield finding("brain-volume", message, "not assessable");
  }
}

/** A lesion many times brighter than tissue draws an Otsu threshold up until only the lesion is left. */
export function* maskOnLesion(view: NativeView): Generator<Finding> {
  const lowest = minimum(view.b0.data);
  const limit = 0.5 * (medianOf(view.b0, view.brain) - lowest);
  const bright: Mask = {
    data: where(view.b0.data, (value) => value - lowest > limit),
    shape: view.b0.shape,
  };
  const held = count(view.brain.data);
  if (count(bright.data) < TISSUE_OVER_MASK * held) return;
  const tissue = largestComponent(bright);
  const rest = combine(tissue, view.brain, (a, b) => a && !b);
  const ratio = count(tissue.data) / held;
  if (ratio < TISSUE_OVER_MASK || !count(rest.data)) return;
  const floor = minimum(view.b1000.data);
  const brightness = (medianOf(view.b1000, view.brain) - floor) / Math.max(medianOf(view.b1000, rest) - floor, 1e-12);
  if (brightness >= MASK_OVER_TISSUE) {
    const message =
      `the brain mask has collapsed onto the lesion: it holds ${percent(1 / ratio)} of the tissue, ` +
      `${fixed(brightness, 1)} times brighter than the rest`;
    yield finding("mask-on-lesion", message, "not assessable");
  }
}

export function* brainAtEdge(view: NativeView): Generator<Finding> {
  const [ni, nj, nk] = view.brain.shape;
  let edge = 0;
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++)
      for (let k = 0; k < nk; k++, at++)
        if (view.brain.data[at] && (i === 0 || j === 0 || i === ni - 1 || j === nj - 1)) edge++;
  const share = edge / count(view.brain.data);
  if (share > EDGE_SHARE && Math.min(ni, nj) >= 3) {
    const message = `the brain reaches the edge of the image (${percent(share, 1)} of the mask lies there): part of it may be missing`;
    yield finding("brain-at-edge", message, "warning");
  }
}

const medianOf = (image: Image, mask: Mask): number => median(inside(image.data, mask.data));
