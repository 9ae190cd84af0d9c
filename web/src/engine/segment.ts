/** From a prepared examination to what the models find in it (`fvv.recipes.segment`). */

import { count } from "./arrays.js";
import { finding, type FusedSegmentation, type Manifest, type PreparedCase } from "./data.js";
import type { Ensemble } from "./ensemble.js";
import { fixed } from "./format.js";
import { fuseFolds, type ModelMasks } from "./fusion.js";
import { voxelVolumeMl } from "./geometry.js";
import { asksForEvidence, believableVisible, remainingStroke } from "./postprocess.js";
import { networkInput } from "./slabs.js";

const LEAST_BRAIN = 0.5;

/** Run every model and fuse their masks; `told` hears which model runs. */
export async function segmentCase(
  prepared: PreparedCase,
  models: Ensemble,
  manifest: Manifest,
  told: (model: number) => Promise<void>,
): Promise<FusedSegmentation> {
  const config = manifest.postprocess;
  const input = networkInput(prepared, manifest.profile.context_slices);
  const meanLogit = new Float32Array(asksForEvidence(config) ? prepared.brain.data.length : 0);
  const masks: ModelMasks[] = [];
  for (let model = 0; model < models.length; model++) {
    await told(model);
    const output = await models.run(input, model);
    masks.push(output.masks);
    for (let at = 0; at < meanLogit.length; at++) meanLogit[at] += Math.fround(output.strokeLogits.data[at] / models.length);
  }
  const evidence = asksForEvidence(config) ? { data: meanLogit, shape: prepared.brain.shape } : null;
  const fused = fuseFolds(
    masks,
    (stroke, brain) => remainingStroke(stroke, brain, evidence, prepared, config),
    (stroke, brain, votes, n) => believableVisible(stroke, brain, votes, n, prepared, config),
  );
  // The stroke is cut to the predicted brain: with hardly any brain, 0 mL of stroke would mean nothing.
  const [found, expected] = [fused.brain, prepared.brain].map((mask) => count(mask.data) * voxelVolumeMl(prepared.grid));
  if (!found || found >= LEAST_BRAIN * expected) return fused;
  const message = `the models found ${fixed(found, 0)} mL of brain, the mask holds ${fixed(expected, 0)} mL`;
  return { ...fused, findings: [finding("no-brain", message, "not assessable"), ...fused.findings] };
}
