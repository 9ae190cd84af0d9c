/** The path of an examination, from images as read to an answer (`fvv.recipes.examine`). */

import { count, type Image } from "./arrays.js";
import { adcMap, atB1000, lesionAdc, NO_COMMON_GAIN } from "./adc.js";
import { type Case, type Decision, type DecisionConfig, finding, type Finding, type FusedSegmentation, type InPlaneGrid, type Manifest, MaskError, type PreparedCase } from "./data.js";
import { decide, DEFAULT_DECISION, mismatchProbability, notAssessable } from "./decision.js";
import type { Ensemble } from "./ensemble.js";
import { type NativeSegmentation, restoreSegmentation } from "./fusion.js";
import { voxelVolumeMl } from "./geometry.js";
import { preprocessCase, workingGrid } from "./preprocess.js";
import { isBroughtToB1000, TARGET_B } from "./protocol.js";
import { assessQuality } from "./quality/index.js";
import { withoutGaps } from "./quality/signal.js";
import { NativeView } from "./quality/view.js";
import { segmentCase } from "./segment.js";

/** The answer; volumes are null where nothing could be measured, never 0. */
export interface Prediction {
  readonly examinationId: string;
  readonly decision: Decision;
  readonly nModels: number;
  readonly voxelVolumeMl: number;
  readonly brainVoxels: number | null;
  readonly strokeVoxels: number | null;
  readonly flairVisibleVoxels: number | null;
  readonly brainMl: number | null;
  readonly strokeMl: number | null;
  readonly fvvMl: number | null;
  readonly fvvPerModelMl: readonly number[];
  readonly mismatchProbability: number | null;
  readonly lesionAdc: readonly [number, number, number] | null;
  /** On the native grid. */
  readonly native: NativeSegmentation | null;
  readonly provider: string;
  readonly models: string;
  readonly seconds: Readonly<Record<string, number>>;
}

export interface Examined {
  readonly prediction: Prediction;
  readonly grid: InPlaneGrid;
  readonly prepared: PreparedCase | null;
  readonly segmentation: FusedSegmentation | null;
}

export type Step = "prepare" | "check" | "network" | "restore";
/** Called before each step; what it throws ends the examination. */
export type Progress = (step: Step, model?: number) => Promise<void>;

/** Prepare, check, segment, bring back to the native grid, decide. */
export async function examine(
  examination: Case,
  models: Ensemble,
  manifest: Manifest,
  progress: Progress = async () => {},
  config: DecisionConfig = DEFAULT_DECISION,
): Promise<Examined> {
  const seconds: Record<string, number> = {};
  const timed = async <T>(step: Step, work: () => T | Promise<T>): Promise<T> => {
    await progress(step);
    const started = performance.now();
    const result = await work();
    seconds[step] = (performance.now() - started) / 1000;
    return result;
  };
  const { profile } = manifest;
  const grid = workingGrid(examination, profile);
  let filled: Case | null = null;
  let prepared: PreparedCase | null = null;
  let findings: readonly Finding[];
  try {
    const ready = await timed("prepare", () => prepare(examination, manifest, grid));
    ({ filled, prepared } = ready);
    findings = await timed("check", () =>
      assessQuality(new NativeView(ready.seen, ready.prepared, ready.gaps, manifest.intensity_range)),
    );
  } catch (error) {
    if (!(error instanceof MaskError)) throw error;
    findings = [finding("no-brain-mask", error.message, "not assessable")];
  }
  let fused: FusedSegmentation | null = null;
  if (prepared && !notAssessable(findings)) {
    const ready = prepared;
    fused = await timed("network", () => segmentCase(ready, models, manifest, (model) => progress("network", model)));
  }
  const voxelMl = voxelVolumeMl(grid);
  const decision = decide(fused, voxelMl, findings, config);
  const notice = manifest.notice ? `; ${manifest.notice}` : "";
  const unanswered: Prediction = {
    examinationId: examination.examinationId,
    decision,
    nModels: models.length,
    voxelVolumeMl: voxelMl,
    brainVoxels: null,
    strokeVoxels: null,
    flairVisibleVoxels: null,
    brainMl: null,
    strokeMl: null,
    fvvMl: null,
    fvvPerModelMl: [],
    mismatchProbability: null,
    lesionAdc: null,
    native: null,
    provider: models.provider,
    models: `${manifest.run_name} (${models.length} of ${manifest.models.length} models${notice})`,
    seconds,
  };
  if (!fused || !filled || decision.state === "not assessable")
    return { prediction: unanswered, grid, prepared, segmentation: fused };
  const [together, images] = [fused, filled];
  const measured = await timed("restore", () => {
    const native = restoreSegmentation(together, grid, profile.name === "reference-v1");
    return measure(unanswered, together, native, adcOf(images, findings), manifest);
  });
  return { prediction: measured, grid, prepared, segmentation: fused };
}

interface Ready {
  readonly filled: Case;
  readonly seen: Case;
  readonly gaps: ReturnType<typeof withoutGaps>["gaps"];
  readonly prepared: PreparedCase;
}

function prepare(examination: Case, manifest: Manifest, grid: InPlaneGrid): Ready {
  const { filled, gaps } = withoutGaps(examination);
  const { b0, b1000, bValue } = filled;
  const seen =
    bValue !== null && isBroughtToB1000(bValue)
      ? { ...filled, b1000: { image: atB1000(b0.image, b1000.image, bValue), affine: b1000.affine } }
      : filled;
  return { filled, seen, gaps, prepared: preprocessCase(seen, manifest.profile, grid) };
}

function adcOf({ b0, b1000, bValue }: Case, findings: readonly Finding[]): Image | null {
  if (findings.some((one) => one.code === NO_COMMON_GAIN)) return null;
  return adcMap(b0.image, b1000.image, bValue || TARGET_B);
}

function measure(
  before: Prediction,
  fused: FusedSegmentation,
  native: NativeSegmentation,
  adc: Image | null,
  manifest: Manifest,
): Prediction {
  const voxelMl = before.voxelVolumeMl;
  const [brainVoxels, strokeVoxels] = [count(fused.brain.data), count(fused.stroke.data)];
  const fvvMl = fused.flairVisibleVoxels * voxelMl;
  const lesion = before.decision.state !== "no lesion found";
  return {
    ...before,
    brainVoxels,
    strokeVoxels,
    flairVisibleVoxels: fused.flairVisibleVoxels,
    brainMl: brainVoxels * voxelMl,
    strokeMl: strokeVoxels * voxelMl,
    fvvMl,
    fvvPerModelMl: fused.flairVisibleVoxelsPerModel.map((voxels) => voxels * voxelMl),
    mismatchProbability: manifest.calibration && lesion ? mismatchProbability(manifest.calibration, fvvMl) : null,
    lesionAdc: adc && lesionAdc(adc, native.stroke, native.brain),
    native,
  };
}
