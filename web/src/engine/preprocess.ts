/** From an examination as read to what the network sees (`fvv.imaging.preprocess`); a new patient's, without ROIs. */

import { count, type Image, mapped, type Mask, maximum } from "./arrays.js";
import { RESCALED } from "./adc.js";
import { otsuMask, robustMask } from "./brain.js";
import { type Case, finding, type Finding, type InPlaneGrid, MaskError, type PreparedCase, type Profile } from "./data.js";
import { padOrCrop, planGrid, scaleSlices } from "./geometry.js";
import { percent } from "./format.js";
import { referenceVoxels, sameRange, signalScale, zscore } from "./intensity.js";

const CROP_WARNING = 0.995;
const ORDINARY_LESION = 5.0;

export function workingGrid(examination: Case, profile: Profile): InPlaneGrid {
  return planGrid(examination.b1000, profile.grid_size, profile.orientation === "as-stored");
}

/** Prepare one examination: reorient and zoom in plane; brain mask; pad or crop; z-scores inside the mask. */
export function preprocessCase(examination: Case, profile: Profile, grid: InPlaneGrid): PreparedCase {
  const findings: Finding[] = [
    ...examination.notes.map((note) => finding("reader-note", note, "note")),
    ...examination.warnings.map((warning) => finding("reader-warning", warning, "warning")),
  ];
  const stored = examination.b1000.image;
  if (sameRange(examination.b0.image, stored))
    findings.push(finding(RESCALED, "b0 and b1000 have the same intensity range: each was rescaled separately", "note"));
  const b0 = scaleSlices(examination.b0.image, grid, 1);
  let b1000 = scaleSlices(stored, grid, 1);
  let masks = masksOf(b0, b1000, profile);
  if (profile.outlier_robust_zscore && grid.scale !== 1) {
    const scale = signalScale(b1000, reference(b1000, masks.within, profile));
    const signal = (z: number): number => scale.mean + z * scale.deviation;
    if (maximum(stored.data) > signal(profile.clip)) {
      b1000 = zoomWithoutGlare(stored, signal(ORDINARY_LESION), grid);
      masks = masksOf(b0, b1000, profile);
    }
  }
  const size = profile.grid_size;
  const brain = padOrCrop(masks.brain, size);
  const within = masks.within === masks.brain ? brain : padOrCrop(masks.within, size);
  const images = { b0: padOrCrop(b0, size), b1000: padOrCrop(b1000, size) };
  const kept = count(brain.data) / count(masks.brain.data);
  if (kept < CROP_WARNING)
    findings.push(
      finding("brain-cut", `the 256 x 256 grid cuts brain away: ${percent(kept, 1)} of the mask is kept`, "warning"),
    );
  const voxels = reference(images.b1000, within, profile);
  const b0Scale = signalScale(images.b0, voxels);
  const b1000Scale = signalScale(images.b1000, voxels);
  return {
    b0: zscore(images.b0, b0Scale, profile.clip, profile.zscore_dtype),
    b1000: zscore(images.b1000, b1000Scale, profile.clip, profile.zscore_dtype),
    brain,
    grid,
    findings,
    b0Scale,
    b1000Scale,
  };
}

/** Only what is under the level is interpolated; what is over it stays with its own voxel. */
function zoomWithoutGlare(image: Image, level: number, grid: InPlaneGrid): Image {
  const excess = mapped(image.data, (value) => Math.max(value - level, 0));
  const base = scaleSlices({ data: mapped(image.data, (value, at) => value - excess[at]), shape: image.shape }, grid, 1);
  const glare = scaleSlices({ data: excess, shape: image.shape }, grid, 0).data;
  return { data: mapped(base.data, (value, at) => value + glare[at]), shape: base.shape };
}

/** The brain, and the mask that the z-scores' scale is taken from. */
function masksOf(b0: Image, b1000: Image, profile: Profile): { brain: Mask; within: Mask } {
  if (profile.mask_method !== "otsu" && profile.mask_method !== "robust")
    throw new MaskError(`the models ask for a brain mask made by another tool (${profile.mask_method}): use \`fvv predict\``);
  const brain = profile.mask_method === "otsu" ? otsuMask(b0, b1000) : robustMask(b0, b1000);
  if (!count(brain.data)) throw new MaskError("the brain mask is empty: nothing can be measured");
  const alone = profile.scale_mask === "brain" || profile.mask_method === "robust";
  return { brain, within: alone ? brain : robustMask(b0, b1000) };
}

function reference(b1000: Image, within: Mask, profile: Profile): Mask {
  return referenceVoxels(b1000, within, profile.outlier_robust_zscore);
}
