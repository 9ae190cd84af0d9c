/** From the masks of n models to one answer (`fvv.imaging.fusion`). */

import { combine, count, emptyMask, mapped, type Mask, where } from "./arrays.js";
import { largestComponent } from "./brain.js";
import type { Finding, FusedSegmentation, InPlaneGrid } from "./data.js";
import { restoreToNative } from "./geometry.js";

/** What one model predicts, on the working grid: logit > 0, FLAIR-visible over the bundle's `visible_logit`. */
export interface ModelMasks {
  readonly brain: Mask;
  readonly stroke: Mask;
  readonly flairVisible: Mask;
}

/** From a fused stroke and brain to the voxels of the stroke that stay, and what is to be said of it. */
export type StrokeFilter = (stroke: Mask, brain: Mask) => { stroke: Mask; findings: readonly Finding[] };
/** From that stroke and the votes for FLAIR-visible in it to the voxels in which FLAIR-visible counts. */
export type VisibleFilter = (stroke: Mask, brain: Mask, votes: Mask, nModels: number) => { counted: Mask; findings: readonly Finding[] };

/**
 * Brain: each model's largest component, then what at least half of the models call brain. Stroke: what at least half
 * call stroke, within that brain. FLAIR-visible voxels: the mean over models of those inside that stroke, where they count.
 */
export function fuseFolds(masks: readonly ModelMasks[], keep: StrokeFilter, keepVisible: VisibleFilter): FusedSegmentation {
  const n = masks.length;
  const shape = masks[0].brain.shape;
  const brainVotes = votes(masks.map((one) => largestComponent(one.brain)));
  const strokeVotes = votes(masks.map((one) => one.stroke));
  const brain = { data: where(brainVotes, (vote) => vote >= n / 2), shape };
  const fused = { data: where(strokeVotes, (vote, at) => vote >= n / 2 && brain.data[at]), shape };
  const { stroke, findings } = keep(fused, brain);
  const within = (mask: Mask): Mask[] => masks.map((one) => combine(one.flairVisible, mask, (a, b) => a && b));
  const { counted, findings: more } = keepVisible(stroke, brain, { data: votes(within(stroke)), shape }, n);
  const visible = within(counted);
  const perModel = visible.map((one) => count(one.data));
  return {
    nModels: n,
    brain,
    stroke,
    flairVisibleVotes: { data: votes(visible), shape },
    flairVisibleVoxels: perModel.reduce((total, one) => total + one, 0) / n,
    flairVisibleVoxelsPerModel: perModel,
    findings: [...findings, ...more],
  };
}

function votes(masks: readonly Mask[]): Uint8Array {
  const total = emptyMask(masks[0].shape).data;
  for (const { data } of masks) for (let at = 0; at < data.length; at++) total[at] += data[at];
  return total;
}

export interface NativeSegmentation {
  readonly brain: Mask;
  readonly stroke: Mask;
  /** 0 ... n models. */
  readonly votes: Mask;
}

/** Bring a fused segmentation back to the native grid: masks by nearest neighbour, votes linearly. */
export function restoreSegmentation(fused: FusedSegmentation, grid: InPlaneGrid, asReference: boolean): NativeSegmentation {
  const brain = restoreToNative(fused.brain, grid, 0);
  const stroke = restoreToNative(fused.stroke, grid, 0);
  let restored = restoreToNative(fused.flairVisibleVotes, grid, 1);
  if (!asReference)
    restored = { data: mapped(restored.data, (vote, at) => (stroke.data[at] ? vote : 0)), shape: restored.shape };
  return { brain, stroke, votes: restored };
}

/** FLAIR-visible as one mask: to at least half of the models, and to one. */
export const visibleToHalf = (votes: Mask, nModels: number): Mask => ({
  data: where(votes.data, (vote) => vote > 0 && 2 * vote >= nModels),
  shape: votes.shape,
});
