/** The values that pass from one step to the next (`fvv.data`, and the settings that a bundle carries). */

import type { Image, Image32, Mask, Shape } from "./arrays.js";

/** (4, 4) voxel to RAS+ mm, row by row. */
export type Affine = readonly (readonly number[])[];
/** For every stored axis, the RAS axis and its direction, +1 or -1. */
export type Orientation = readonly (readonly [number, number])[];

export interface Volume {
  readonly image: Image;
  readonly affine: Affine;
}

export interface Case {
  readonly examinationId: string;
  readonly b0: Volume;
  readonly b1000: Volume;
  /** Of b1000, s/mm^2, where a file states it. */
  readonly bValue: number | null;
  readonly notes: readonly string[];
  readonly warnings: readonly string[];
}

export type Severity = "note" | "warning" | "not assessable";

export interface Finding {
  readonly code: string;
  readonly message: string;
  readonly severity: Severity;
}

export const finding = (code: string, message: string, severity: Severity): Finding => ({ code, message, severity });

export interface Profile {
  readonly name: string;
  readonly mask_method: string;
  readonly outlier_robust_zscore: boolean;
  readonly scale_mask: string;
  readonly orientation: string;
  readonly grid_size: number;
  readonly clip: number;
  readonly zscore_dtype: string;
  readonly context_slices: number;
}

export interface PostprocessConfig {
  readonly minimum_lesion_mm3: number;
  readonly visible_logit: number;
  readonly minimum_visible_share: number;
  readonly minimum_core_mm3: number;
  readonly core_logit: number;
  readonly maximum_relative_adc: number | null;
  readonly minimum_mirror_drop: number | null;
  readonly certain_logit: number;
  readonly certain_core_mm3: number;
  readonly late_core_mm3: number | null;
  readonly late_contrast: number;
  readonly satellite_core_mm3: number | null;
}

export interface DecisionConfig {
  readonly cutoffMl: number;
  readonly minimumLesionMl: number;
}

export interface Calibration {
  readonly intercept: number;
  readonly slope: number;
  readonly pseudo_volume_ml: number;
  readonly lowest: number;
  readonly highest: number;
  readonly fitted_on: string;
  readonly prevalence: number | null;
}

/** What the engine needs of `bundle.json`. */
export interface Manifest {
  readonly schema_version: number;
  readonly software: string;
  readonly run_name: string;
  readonly notice: string;
  readonly profile: Profile;
  readonly calibration: Calibration | null;
  readonly intensity_range: Readonly<Record<string, readonly [number, number]>>;
  readonly postprocess: PostprocessConfig;
  readonly models: readonly { readonly file: string; readonly sha256: string }[];
}

/** The way from the native grid to the working grid and back. */
export interface InPlaneGrid {
  readonly nativeShape: Shape;
  readonly nativeAffine: Affine;
  readonly orientation: Orientation;
  readonly scale: number;
  readonly size: number;
}

export interface SignalScale {
  readonly mean: number;
  readonly deviation: number;
}

/** One examination on the working grid, as the network sees it: z-scores, exact in their stored type. */
export interface PreparedCase {
  readonly b0: Image32;
  readonly b1000: Image32;
  readonly brain: Mask;
  readonly grid: InPlaneGrid;
  readonly findings: readonly Finding[];
  readonly b0Scale: SignalScale;
  readonly b1000Scale: SignalScale;
}

export type DecisionState = "mismatch likely" | "mismatch unlikely" | "no lesion found" | "not assessable";

export interface Decision {
  readonly state: DecisionState;
  readonly cutoffMl: number;
  readonly reasons: readonly Finding[];
  readonly minimumLesionMl: number;
}

/** What n models say together, on the working grid. */
export interface FusedSegmentation {
  readonly nModels: number;
  readonly brain: Mask;
  readonly stroke: Mask;
  /** 0 ... n models, inside the stroke. */
  readonly flairVisibleVotes: Mask;
  readonly flairVisibleVoxels: number;
  readonly flairVisibleVoxelsPerModel: readonly number[];
  readonly findings: readonly Finding[];
}

/** A refusal in one sentence: what was expected, what was found, how to fix it. */
export class FvvError extends Error {
  readonly hint: string;

  constructor(message: string, hint = "") {
    super(message);
    this.hint = hint;
  }

  /** The sentence with its hint. */
  override toString(): string {
    return this.hint ? `${this.message} (${this.hint})` : this.message;
  }
}

/** No brain mask can be made: not assessable, not a failure. */
export class MaskError extends FvvError {}
