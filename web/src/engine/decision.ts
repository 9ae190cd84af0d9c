/** From a segmentation and its quality to one of four answers (`fvv.imaging.decision`). */

import { count } from "./arrays.js";
import { type Calibration, type Decision, type DecisionConfig, type DecisionState, finding, type Finding, type FusedSegmentation } from "./data.js";
import { fixed, general } from "./format.js";

const AGREEMENT = 2 / 3;
const MOST_BRAIN_ML = 3000;
const MOST_STROKE = 0.75;
const MOST_DECIMALS = 6;
const ANSWER_CODES = new Set(["no-lesion", "fvv-under-cutoff", "fvv-over-cutoff", "models-disagree"]);
export const DEFAULT_DECISION: DecisionConfig = { cutoffMl: 0.5, minimumLesionMl: 0 };

export const notAssessable = (findings: readonly Finding[]): boolean =>
  findings.some((one) => one.severity === "not assessable");

/** Decide; what cannot be assessed never becomes a volume. */
export function decide(
  fused: FusedSegmentation | null,
  voxelMl: number,
  findings: readonly Finding[],
  config: DecisionConfig,
): Decision {
  if (!fused) return decision("not assessable", findings, config);
  const brainMl = count(fused.brain.data) * voxelMl;
  const strokeMl = count(fused.stroke.data) * voxelMl;
  const perModel = fused.flairVisibleVoxelsPerModel.map((voxels) => voxels * voxelMl);
  const found = [...findings, ...fused.findings, ...impossible(brainMl, strokeMl)];
  return decideVolumes(strokeMl, fused.flairVisibleVoxels * voxelMl, perModel, found, config);
}

/** What no head holds comes from models of another kind or a wrong voxel size, and is never an answer. */
function impossible(brainMl: number, strokeMl: number): Finding[] {
  let message = "";
  if (!brainMl) message = "the models found no brain";
  else if (brainMl > MOST_BRAIN_ML)
    message = `the models found ${fixed(brainMl, 0)} mL of brain, no head holds more than ${MOST_BRAIN_ML}`;
  if (message) return [finding("no-brain", message, "not assessable")];
  if (strokeMl > MOST_STROKE * brainMl) {
    message = `the models found ${fixed(strokeMl, 0)} mL of stroke in ${fixed(brainMl, 0)} mL of brain: no stroke is so large`;
    return [finding("stroke-too-large", message, "not assessable")];
  }
  return [];
}

/** As fine as it takes to show on which side of the limits a volume lies, and that it is not 0. */
export function formatMl(volume: number | null, ...limitsMl: number[]): string {
  if (volume === null) return "not measured";
  let decimals = volume < 1 ? 3 : volume < 10 ? 2 : volume < 1000 ? 1 : 0;
  const misleads = (limit: number): boolean => Math.sign(Number(volume.toFixed(decimals)) - limit) !== Math.sign(volume - limit);
  while (decimals < MOST_DECIMALS && [0, ...limitsMl].some(misleads)) decimals++;
  return `${fixed(volume, decimals)} mL`;
}

/** The decision at another cut-off, from the volumes of a finished prediction. */
export function decideAgain(
  before: Decision,
  volumes: { strokeMl: number | null; fvvMl: number | null; perModelMl: readonly number[] },
  cutoffMl: number,
): Decision {
  const config = { cutoffMl, minimumLesionMl: before.minimumLesionMl };
  const kept = before.reasons.filter((reason) => !ANSWER_CODES.has(reason.code));
  if (volumes.strokeMl === null || volumes.fvvMl === null) return decision("not assessable", kept, config);
  return decideVolumes(volumes.strokeMl, volumes.fvvMl, volumes.perModelMl, kept, config);
}

function decideVolumes(
  strokeMl: number,
  fvvMl: number,
  perModelMl: readonly number[],
  findings: readonly Finding[],
  config: DecisionConfig,
): Decision {
  if (notAssessable(findings)) return decision("not assessable", findings, config);
  const { cutoffMl, minimumLesionMl } = config;
  if (strokeMl <= minimumLesionMl) {
    const message = `stroke volume ${formatMl(strokeMl, minimumLesionMl)} is not over ${general(minimumLesionMl)} mL`;
    return decision("no lesion found", [finding("no-lesion", message, "note"), ...findings], config);
  }
  const likely = fvvMl < cutoffMl;
  const message = `FVV ${formatMl(fvvMl, cutoffMl)} is ${likely ? "under" : "not under"} ${general(cutoffMl)} mL`;
  const reasons = [finding(likely ? "fvv-under-cutoff" : "fvv-over-cutoff", message, "note")];
  const agreeing = perModelMl.filter((fvv) => fvv < cutoffMl === likely).length;
  if (perModelMl.length && agreeing < AGREEMENT * perModelMl.length)
    reasons.push(
      finding(
        "models-disagree",
        `only ${agreeing} of ${perModelMl.length} models agree with the decision (FVV against the cut-off, ` +
          "within the ensemble's stroke)",
        "warning",
      ),
    );
  return decision(likely ? "mismatch likely" : "mismatch unlikely", [...reasons, ...findings], config);
}

const decision = (state: DecisionState, reasons: readonly Finding[], config: DecisionConfig): Decision => ({
  state,
  cutoffMl: config.cutoffMl,
  reasons,
  minimumLesionMl: config.minimumLesionMl,
});

/** P(mismatch) at an FVV (`fvv.schemas.bundle.Calibration`), at the prevalence where it was fitted. */
export function mismatchProbability(curve: Calibration, fvvMl: number): number {
  const logOdds = curve.intercept + curve.slope * Math.log(fvvMl + curve.pseudo_volume_ml);
  return Math.min(Math.max(0.5 + 0.5 * Math.tanh(logOdds / 2), curve.lowest), curve.highest);
}
