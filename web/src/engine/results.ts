/** results.json (`fvv.schemas.results`): the same names as in the file that `fvv predict` writes. */

import type { Prediction } from "./examine.js";

export const DISCLAIMER = "For research use only. Not a medical device.";

export function resultsOf(prediction: Prediction, software: string, sources: Readonly<Record<string, string>>): Record<string, unknown> {
  const { decision, fvvPerModelMl: perModel, lesionAdc } = prediction;
  const middle = perModel.reduce((total, one) => total + one, 0) / perModel.length;
  const sd = Math.sqrt(perModel.reduce((total, one) => total + (one - middle) ** 2, 0) / (perModel.length - 1));
  const agreeing = perModel.filter((one) => one < decision.cutoffMl === (prediction.fvvMl ?? 0) < decision.cutoffMl).length;
  return {
    Patient: prediction.examinationId,
    BrainMaskVoxels: prediction.brainVoxels,
    StrokeBlobVoxels: prediction.strokeVoxels,
    FlairVizVoxels: prediction.flairVisibleVoxels,
    VoxVolume: prediction.voxelVolumeMl,
    BrainMaskVolume: prediction.brainMl,
    StrokeBlobVolume: prediction.strokeMl,
    FlairVizVolume: prediction.fvvMl,
    decision: decision.state,
    cutoff_ml: decision.cutoffMl,
    minimum_lesion_ml: decision.minimumLesionMl,
    reasons: decision.reasons,
    n_models: prediction.nModels,
    FlairVizVolume_min: perModel.length ? Math.min(...perModel) : null,
    FlairVizVolume_max: perModel.length ? Math.max(...perModel) : null,
    FlairVizVolume_sd: perModel.length > 1 ? sd : null,
    agreement: perModel.length ? agreeing / perModel.length : null,
    mismatch_probability: prediction.mismatchProbability,
    lesion_adc_median: lesionAdc?.[0] ?? null,
    lesion_adc_p10: lesionAdc?.[1] ?? null,
    lesion_adc_relative: lesionAdc?.[2] ?? null,
    models: prediction.models,
    provider: prediction.provider,
    seconds: prediction.seconds,
    FlairVizVolume_per_model: perModel,
    units: { volumes: "mL", voxels: "of the 256 x 256 working grid", ADC: "10^-6 mm^2/s" },
    software,
    note: DISCLAIMER,
    sources,
  };
}
