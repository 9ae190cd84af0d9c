/** What may make a number untrustworthy, each with a code, a sentence and a severity (`fvv.imaging.quality`). */

import type { Finding } from "../data.js";
import { displacement } from "./alignment.js";
import { commonGain, kindOfImage, statedBValue, unstatedBValue } from "./contrast.js";
import { brainAtEdge, brainVolume, maskOnLesion } from "./masks.js";
import { sizeAndAxes } from "./shape.js";
import { greyLevels, missingNumbers, noise } from "./signal.js";
import { blankSlices, cutEnds, motion, numberOfSlices, repeatedSlices, sliceSpacing } from "./stack.js";
import { unlikeTraining } from "./usual.js";
import type { NativeView } from "./view.js";

/** Every check, in the order in which findings are listed. */
const CHECKS: readonly ((view: NativeView) => Iterable<Finding>)[] = [
  missingNumbers,
  greyLevels,
  noise,
  brainVolume,
  maskOnLesion,
  brainAtEdge,
  sizeAndAxes,
  numberOfSlices,
  sliceSpacing,
  blankSlices,
  cutEnds,
  repeatedSlices,
  motion,
  statedBValue,
  unstatedBValue,
  kindOfImage,
  displacement,
  commonGain,
  unlikeTraining,
];

export function assessQuality(view: NativeView): Finding[] {
  return [...view.prepared.findings, ...CHECKS.flatMap((check) => [...check(view)])];
}
