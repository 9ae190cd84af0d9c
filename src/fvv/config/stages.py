"""Settings of the stages that have few."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fvv.config.base import OneLine, Settings
from fvv.config.profiles import ProfileName
from fvv.config.shared import MISMATCH_BELOW, ComputeConfig, DecisionConfig, PostprocessConfig, PreprocessConfig
from fvv.system.extension import ExtensionName


class PrepareConfig(Settings):
    """From input_data to the store."""

    kfolds: int = Field(default=10, ge=2)
    """Number of folds."""
    valid_proportion: float = Field(default=0.2, gt=0, lt=1)
    """Share of the other persons of each fold that are used for validation, which selects the checkpoint."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split into folds."""
    profile: ProfileName = "robust-v3"
    """Preprocessing profile."""
    quality: Literal["refuse", "warn"] = "refuse"
    """Examinations that quality control finds not assessable: leave them out, or store them with a warning."""
    preprocess: PreprocessConfig = PreprocessConfig()
    compute: ComputeConfig = ComputeConfig()


class ConvertConfig(Settings):
    """From checkpoints to a bundle of ONNX models."""

    check_patients: int = Field(default=2, ge=1)
    """Examinations of each fold's test part on which onnxruntime is compared with PyTorch, whole volumes."""
    logit_tolerance: float = Field(default=1e-3, gt=0)
    """Largest accepted difference of a logit; float32 rounding gives about 1e-5."""
    notice: OneLine = ""
    """A sentence for everybody who uses the models; stored in the bundle and printed at every prediction."""
    postprocess: PostprocessConfig = PostprocessConfig()


class EvaluateConfig(Settings):
    """Evaluate out of fold, or the whole ensemble on held-out examinations (--external)."""

    own_masks: bool = False
    """With --external only: give the models an automatic brain mask, as for new patients without a mask file; a given
    mask is then only the reference of the predicted brain."""
    bootstrap_samples: int = Field(default=2000, ge=1)
    """Bootstrap samples of persons behind every bootstrap interval."""
    seed: int = Field(default=0, ge=0)
    """Seed of the bootstrap."""
    visible_fraction_label: float = Field(default=MISMATCH_BELOW, gt=0, le=1)
    """Without readers' labels: mismatch where less than this share of the reference lesion is FLAIR-visible."""
    operating_specificity: float = Field(default=0.9, gt=0, le=1)
    """Besides the cut-off and Youden's, the cut-off that keeps this specificity is evaluated."""
    pseudo_volume_ml: float = Field(default=0.1, gt=0)
    """P(mismatch) is a logistic curve on log(FVV + this): a fifth of the cut-off, so that 0 mL has a logarithm and
    volumes of a few voxels count alike."""
    calibrate: bool = False
    """Store the fitted calibration of P(mismatch) in the bundle."""
    heatmaps: bool = True
    """Write a picture and a colour image of every examination; the report shows the worst and the best. Without them
    the report has no viewer."""
    viewer_patients: int = Field(default=24, ge=0)
    """Examinations in the report's scrollable viewer, 0.2 to 0.6 MB each; larger cohorts are sampled evenly by stroke
    Dice."""
    metrics: tuple[ExtensionName, ...] = ()
    """Metrics of your own, "package.module:name", measured beside those of fvv (docs/how-to/extend.md)."""
    preprocess: PreprocessConfig = PreprocessConfig()
    """With --external only: a store holds its examinations as they were read."""
    decision: DecisionConfig = DecisionConfig()
    postprocess: PostprocessConfig | None = None
    compute: ComputeConfig = ComputeConfig()


class CardConfig(Settings):
    """Text of a model card that no file contains."""

    training_data: str = ""
    """Paragraph on the patients whose images trained the models."""
    limits: tuple[str, ...] = ()
    """Known limits, one sentence each."""
    name_examinations: bool = False
    """Name the examinations of --real in the card's table of them; otherwise they are numbered. For public data."""
    commands: tuple[str, ...] = ()
    """Commands that reproduce the card's numbers."""


class PredictConfig(Settings):
    """Prediction of new patients."""

    folds: int = Field(default=0, ge=0)
    """Use only this number of models, the first of the ensemble (0 = all)."""
    overwrite: bool = False
    """Replace results of other images, models or settings; never files that fvv did not write."""
    layout: Literal["folders", "bids"] = "folders"
    """Output layout: a folder for each examination, or a BIDS derivative data set."""
    probabilities: bool = False
    """Also write the ensemble's probability maps of brain, stroke and FLAIR-visible part; every model runs twice."""
    parquet: bool = False
    """Also write the rows of results.csv as results.parquet, with typed columns; needs the extra `parquet`."""
    label_map: Literal["none", "nrrd", "mha"] = "none"
    """Also write one label map for 3D Slicer and ITK programs, segmentation.seg.nrrd or segmentation.mha (1 brain, 2
    stroke, 3 part of the stroke that at least half of the models predict FLAIR-visible). Needs SimpleITK, and the
    layout `folders`."""
    readers: tuple[ExtensionName, ...] = ()
    """Readers of your own file formats, "package.module:name", asked before those of fvv (docs/how-to/extend.md)."""
    series: tuple[int, ...] = ()
    """DICOM: SeriesNumber of the series that hold b0 and b1000 (default: chosen by b-value)."""
    preprocess: PreprocessConfig = PreprocessConfig()
    decision: DecisionConfig = DecisionConfig()
    postprocess: PostprocessConfig | None = None
    compute: ComputeConfig = ComputeConfig()


class LabelConfig(Settings):
    """Draft masks for readers."""

    visible_ratio: float = Field(default=1.15, gt=1)
    """FLAIR over the FLAIR expected without a stroke, above which a voxel is proposed as FLAIR-visible. 1.15 is the
    ratio of MR WITNESS (Schwamm et al. 2018, doi 10.1002/ana.25235)."""
    readers: tuple[ExtensionName, ...] = ()
    """Readers of your own file formats, "package.module:name", asked before those of fvv (docs/how-to/extend.md)."""
    preprocess: PreprocessConfig = PreprocessConfig()
    postprocess: PostprocessConfig | None = None
    compute: ComputeConfig = ComputeConfig()
