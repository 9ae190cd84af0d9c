/** What is taken out of a fused stroke and its FLAIR-visible part, for lack of evidence (`fvv.imaging.postprocess`). */

import { type Array3, type Image, type Image32, layerCounts, mapped, type Mask, median, where } from "./arrays.js";
import { assumedRelativeAdc, relativeAdc } from "./adc.js";
import { finding, type Finding, type PostprocessConfig, type PreparedCase } from "./data.js";
import { DEFAULT_DECISION } from "./decision.js";
import { fixed, general } from "./format.js";
import { visibleToHalf } from "./fusion.js";
import { voxelVolumeMl } from "./geometry.js";
import { gaussian, label, labelSizes, TOUCHING } from "./ndimage.js";

const MIRROR_BLUR = [3, 3, 0.5] as const;
/** What becomes of a component. */
type Verdict = "stays" | "hardly sure" | "symmetric" | "late" | "satellite" | "removed";
/** Why a component that stays is doubtful. */
const DOUBTS: Partial<Record<Verdict, string>> = {
  "hardly sure": "the models are hardly sure",
  symmetric: "its ADC is not lower than on the mirrored side",
  late: "its ADC is not low",
};
const ASSUMED_ADC =
  "b0 and b1000 have different intensity scales: the stroke was judged as if the brain's median ADC were normal";

export interface Remaining {
  readonly stroke: Mask;
  readonly findings: readonly Finding[];
}

export const asksForEvidence = (config: PostprocessConfig): boolean => config.minimum_core_mm3 > 0;

/** What post-processing leaves of a fused stroke; `meanLogit` is null where no evidence is asked for. */
export function remainingStroke(
  stroke: Mask,
  brain: Mask,
  meanLogit: Image32 | null,
  prepared: PreparedCase,
  config: PostprocessConfig,
): Remaining {
  const large = withoutSmallPieces(stroke, config.minimum_lesion_mm3, 1000 * voxelVolumeMl(prepared.grid));
  return meanLogit ? believableStroke(large, brain, meanLogit, prepared, config) : { stroke: large, findings: [] };
}

function withoutSmallPieces(mask: Mask, minimumMm3: number, voxelMm3: number): Mask {
  if (!minimumMm3) return mask;
  const labels = label(mask, TOUCHING);
  const sizes = labelSizes(labels);
  return {
    data: where(labels.data, (one) => one && sizes[one] * voxelMm3 >= justUnder(minimumMm3)),
    shape: mask.shape,
  };
}

/** A billionth of tolerance: exactly the limit is enough. */
const justUnder = (limit: number): number => limit * (1 - 1e-9);

function believableStroke(
  stroke: Mask,
  brain: Mask,
  meanLogit: Image32,
  prepared: PreparedCase,
  config: PostprocessConfig,
): Remaining {
  const labels = label(stroke, TOUCHING);
  if (!labels.n) return { stroke, findings: [] };
  const voxels: number[][] = Array.from({ length: labels.n }, () => []);
  for (let at = 0; at < labels.data.length; at++) if (labels.data[at]) voxels[labels.data[at] - 1].push(at);
  const clues = new Clues(prepared, brain, meanLogit, config);
  const own = voxels.map((places) => clues.verdict(places));
  const anySatellites = voxels.some((places, at) => clues.hasSatellites(places, own[at]));
  const verdicts = own.map((verdict) => (anySatellites && verdict === "removed" ? "satellite" : verdict));
  const volumes = voxels.map((places) => places.length * voxelVolumeMl(prepared.grid));
  const findings = verdictFindings(verdicts, volumes);
  if (clues.adcIsAssumed) findings.push(finding("evidence-without-adc", ASSUMED_ADC, "warning"));
  const kept = where(labels.data, (one) => one && verdicts[one - 1] !== "removed");
  return { stroke: { data: kept, shape: stroke.shape }, findings };
}

/** The components of a stroke whose FLAIR-visible part counts: it is large enough, or their ADC is about normal again. */
export function believableVisible(
  stroke: Mask,
  brain: Mask,
  votes: Mask,
  nModels: number,
  prepared: PreparedCase,
  config: PostprocessConfig,
): { counted: Mask; findings: readonly Finding[] } {
  const share = config.minimum_visible_share;
  if (!share || !votes.data.some(Boolean)) return { counted: stroke, findings: [] };
  const labels = label(stroke, TOUCHING);
  const sizes = new Float64Array(labels.n + 1);
  const visible = new Float64Array(labels.n + 1);
  const voted = new Float64Array(labels.n + 1);
  const toHalf = visibleToHalf(votes, nModels).data;
  labels.data.forEach((one, at) => {
    sizes[one]++;
    visible[one] += toHalf[at];
    voted[one] += votes.data[at];
  });
  const small = [...voted.keys()].filter((one) => voted[one] && visible[one] < justUnder(share) * sizes[one]);
  const highest = config.maximum_relative_adc;
  const adc = highest !== null && small.length ? adcToJudgeBy(prepared, brain).adc : null;
  const isLate = (one: number): boolean => {
    if (!adc || highest === null) return false;
    const values: number[] = [];
    labels.data.forEach((which, at) => which === one && values.push(adc.data[at]));
    return medianOf(values) >= highest;
  };
  const dropped = new Set(small.filter((one) => !isLate(one)));
  if (!dropped.size) return { counted: stroke, findings: [] };
  const volumeMl = ([...dropped].reduce((sum, one) => sum + voted[one], 0) / nModels) * voxelVolumeMl(prepared.grid);
  const message =
    `${fixed(volumeMl, 2)} mL not counted as FLAIR-visible: less than ${general(100 * share)}% of the component, ` +
    `in ${dropped.size} of ${labels.n} component${labels.n === 1 ? "" : "s"}`;
  const counted = { data: where(labels.data, (one) => one && !dropped.has(one)), shape: stroke.shape };
  const severity = volumeMl >= DEFAULT_DECISION.cutoffMl ? "warning" : "note";
  return { counted, findings: [finding("visible-part-removed", message, severity)] };
}

/** ADC over the brain's median, and whether that median is assumed. */
function adcToJudgeBy(prepared: PreparedCase, brain: Mask): { adc: Image; assumed: boolean } {
  const measured = relativeAdc(prepared, brain);
  return { adc: measured ?? assumedRelativeAdc(prepared, brain), assumed: !measured };
}

/** What components are judged by; each volume is computed when a component first needs it. */
class Clues {
  readonly adcIsAssumed: boolean;
  private readonly adc: Image | null;
  private mirroredAdc: Float64Array | null = null;
  private brighter: Float32Array | null = null;
  private readonly voxelMm3: number;

  constructor(
    private readonly prepared: PreparedCase,
    private readonly brain: Mask,
    private readonly logit: Image32,
    private readonly config: PostprocessConfig,
  ) {
    const asks = config.maximum_relative_adc !== null || config.minimum_mirror_drop !== null;
    const { adc, assumed } = asks ? adcToJudgeBy(prepared, brain) : { adc: null, assumed: false };
    this.adc = adc;
    this.adcIsAssumed = assumed;
    this.voxelMm3 = 1000 * voxelVolumeMl(prepared.grid);
  }

  /** Whether a component has evidence of its own, and what speaks against it all the same. */
  verdict(places: readonly number[]): Verdict {
    const { config } = this;
    const sure = this.coreMm3(places, config.core_logit) >= justUnder(config.minimum_core_mm3);
    const certainMm3 = this.coreMm3(places, config.certain_logit);
    const certain = certainMm3 >= justUnder(config.certain_core_mm3);
    const clear = certainMm3 >= justUnder(config.minimum_core_mm3) ? "stays" : "hardly sure";
    if (sure && this.lowAdc(places)) {
      if (this.lowerThanMirrored(places)) return clear;
      if (config.certain_core_mm3 && certain) return "symmetric";
    }
    const late = config.late_core_mm3 !== null && certainMm3 >= justUnder(config.late_core_mm3);
    return late && this.contrast(places) >= config.late_contrast ? "late" : "removed";
  }

  /** Whether a component has evidence, and is so certain that others need none. */
  hasSatellites(places: readonly number[], verdict: Verdict): boolean {
    const least = this.config.satellite_core_mm3;
    if (least === null || verdict === "removed") return false;
    return this.coreMm3(places, this.config.certain_logit) >= justUnder(least);
  }

  private coreMm3(places: readonly number[], logit: number): number {
    return places.filter((at) => this.logit.data[at] > logit).length * this.voxelMm3;
  }

  private lowAdc(places: readonly number[]): boolean {
    const highest = this.config.maximum_relative_adc;
    const { adc } = this;
    return highest === null || (adc !== null && medianOf(places.map((at) => adc.data[at])) < highest);
  }

  private lowerThanMirrored(places: readonly number[]): boolean {
    const least = this.config.minimum_mirror_drop;
    const { adc } = this;
    if (least === null) return true;
    if (!adc) return false;
    // Where the other side holds no brain, as if it held usual tissue.
    const other = (this.mirroredAdc ??= mirrored(
      { data: mapped(adc.data, (value) => (Number.isNaN(value) ? 1 : value)), shape: adc.shape },
      this.brain,
    ).opposite);
    return medianOf(places.map((at) => other[at] - adc.data[at])) >= least;
  }

  private contrast(places: readonly number[]): number {
    if (!this.brighter) {
      const { blurred, opposite } = mirrored(this.prepared.b1000, this.brain);
      this.brighter = mapped(blurred, (value, at) => value - opposite[at]);
    }
    const { brighter } = this;
    return medianOf(places.map((at) => brighter[at]));
  }
}

/** A volume blurred, and reflected at the middle of the brain's extent from left to right; NaN beyond the grid. */
function mirrored<T extends Float64Array | Float32Array>(volume: Array3<T>, brain: Mask): { blurred: T; opposite: T } {
  const columns = layerCounts(brain, 0);
  const first = columns.findIndex((held) => held > 0);
  const last = columns.findLastIndex((held) => held > 0);
  const blurred = gaussian(volume, MIRROR_BLUR).data;
  const opposite = blurred.slice() as T;
  const [ni, nj, nk] = volume.shape;
  const layer = nj * nk;
  for (let i = 0; i < ni; i++) {
    const from = first + last - i;
    if (from >= 0 && from < ni) opposite.set(blurred.subarray(from * layer, (from + 1) * layer), i * layer);
    else opposite.fill(NaN, i * layer, (i + 1) * layer);
  }
  return { blurred, opposite };
}

/** Of what was measured; NaN, of which every comparison is false, where nothing was. */
const medianOf = (values: readonly number[]): number => median(Float64Array.from(values.filter(Number.isFinite)));

function verdictFindings(verdicts: readonly Verdict[], volumesMl: readonly number[]): Finding[] {
  const found: Finding[] = [];
  const removed = verdicts.map((verdict) => verdict === "removed");
  if (removed.some(Boolean)) {
    const left = removed.every(Boolean) ? "; nothing is left of the stroke" : "";
    const which = components(removed, volumesMl);
    found.push(finding("weak-evidence-removed", `removed from the stroke for too little evidence: ${which}${left}`, "note"));
  }
  const satellites = verdicts.map((verdict) => verdict === "satellite");
  if (satellites.some(Boolean)) {
    const which = components(satellites, volumesMl);
    found.push(finding("satellites-kept", `kept beside a certain stroke, with too little evidence of their own: ${which}`, "note"));
  }
  const doubtful = verdicts.map((verdict) => verdict in DOUBTS);
  if (doubtful.some(Boolean)) {
    const why = [...new Set(verdicts.flatMap((verdict) => DOUBTS[verdict] ?? []))].join(", ");
    const which = components(doubtful.filter((_, at) => !removed[at]), volumesMl.filter((_, at) => !removed[at]));
    found.push(finding("doubtful-lesion", `reported lesion has weak evidence: ${which}: ${why}`, "warning"));
  }
  return found;
}

function components(which: readonly boolean[], volumesMl: readonly number[]): string {
  const total = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0);
  const n = which.filter(Boolean).length;
  const volume = total(volumesMl.filter((_, at) => which[at]));
  return `${n} of ${which.length} component${which.length === 1 ? "" : "s"} (${fixed(volume, 2)} of ${fixed(total(volumesMl), 2)} mL)`;
}
