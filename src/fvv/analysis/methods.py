"""The methods section of an evaluation."""

from __future__ import annotations

import platform
from importlib.metadata import version

from fvv import __version__
from fvv.analysis.summary import VOLUME_EDGES_ML
from fvv.cohort.labels import VISIBLE_EDGES
from fvv.config import EvaluateConfig, PostprocessConfig
from fvv.imaging.postprocess import in_words
from fvv.schemas.summary import EXTERNAL, OUT_OF_FOLD


def software_versions() -> str:
    """Versions of what the numbers depend on."""
    packages = ("numpy", "scipy", "scikit-learn", "statsmodels", "onnxruntime", "nibabel")
    parts = [f"fvv {__version__}", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *(f"{name} {version(name)}" for name in packages)])


def methods_paragraphs(kind: str, label: str, config: EvaluateConfig) -> tuple[str, ...]:
    """The methods section of the evaluation, a paragraph each, in plain sentences.

    Args:
        kind: `OUT_OF_FOLD` or `EXTERNAL`.
    """
    volumes = ", ".join(f"{edge:g}" for edge in VOLUME_EDGES_ML)
    shares = " and ".join(f"{100 * edge:g}" for edge in VISIBLE_EDGES)
    text = _METHODS.format(
        who=_WHO[kind],
        how=" ".join(_how(kind, config)),
        label=label,
        cutoff=f"{config.decision.cutoff_ml:g}",
        specificity=f"{100 * config.operating_specificity:g}",
        draws=config.bootstrap_samples,
        seed=config.seed,
        pseudo=f"{config.pseudo_volume_ml:g}",
        volumes=volumes,
        shares=shares,
        versions=software_versions(),
    )
    return tuple(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _how(kind: str, config: EvaluateConfig) -> list[str]:
    """What was done to the images and to the masks, a sentence each."""
    sentences = [_OWN_MASKS if kind == EXTERNAL and config.own_masks else _GIVEN_MASKS]
    post = config.postprocess
    if post == PostprocessConfig():
        sentences.append("Nothing was removed from the predicted stroke.")
    if post is not None and post.minimum_lesion_mm3:
        sentences.append(f"Components of the stroke under {post.minimum_lesion_mm3:g} mm³ were removed.")
    if post is not None and post.asks_for_evidence:
        sentences.append(f"Components with too little evidence were removed; required was {in_words(post)}.")
    if post is not None and post.visible_logit:
        sentences.append(f"A voxel was FLAIR-visible to a model where its logit was over {post.visible_logit:g}.")
    if post is not None and post.minimum_visible_share:
        share = f"{100 * post.minimum_visible_share:g} %"
        late = post.maximum_relative_adc
        unless = f", unless their ADC was at least {late:g} of the brain's median" if late is not None else ""
        sentences.append(
            f"Components of which less than {share} was FLAIR-visible to at least half of the models count as not "
            f"visible{unless}."
        )
    if kind == EXTERNAL:
        sentences.append(_REFUSED)
    return sentences


_GIVEN_MASKS = "Brain mask: the given one if there was one, otherwise computed from the images."
_OWN_MASKS = """Brain mask used by the models: computed from the images of every patient; a given mask was only compared
    with the predicted brain."""
_REFUSED = """Examinations that failed quality control were not segmented: they are counted as not assessable, and
    are left out of overlap measures and lesion counts."""
_WHO = {
    OUT_OF_FOLD: """Each examination was segmented by the cross-validation model that had neither been trained on that
        person nor used that person to choose its weights. These are numbers of single models; a new patient gets the
        answer of the whole ensemble, which may differ.""",
    EXTERNAL: """Each examination was segmented by the whole ensemble, none of whose models had been trained or selected
        on that person or on these images (checked by hashes of the ids and of the voxel values). Brain and stroke:
        voxels predicted by at least half of the models; FVV: mean over the models of the FLAIR-visible voxels inside
        that stroke.""",
}
_METHODS = """
{who} {how}

Masks were compared on the grid of the input images. A structure that no reader outlined is unknown, not empty: the
patient is left out of every number that needs it. Pooled Dice adds up the volumes of all patients before the ratio is
taken; mean Dice is the average over patients. If both masks are empty, overlap is not defined, and the patient is
counted but not averaged; if only one is empty, Dice is 0. Distances are between surface voxels in mm; they are defined
if neither mask is empty. A lesion is a connected component (26 neighbours); it is detected if one voxel overlaps.
Volumes are those reported to users, measured on the working grid.

Each examination gets one of four answers: mismatch likely, mismatch unlikely, no lesion found, not assessable. They are
tabulated against the reference: mismatch, no mismatch, no lesion. Sensitivity and specificity of the answers are of the
examinations that could be assessed; a mismatch whose stroke was missed counts as not found. Label: {label}.

The FVV was also evaluated alone, with mismatch as the positive class, which a low FVV predicts; a missed stroke has an
FVV of 0 mL, which is under any cut-off. The prespecified cut-off is {cutoff} mL. Youden's cut-off and the one with a
specificity of {specificity} % were chosen on the patients they are evaluated on; their results are therefore also given
corrected for optimism by bootstrap (Harrell). If every person was examined once, the interval of the AUC is DeLong's on
the logit scale, and intervals of proportions are Wilson's. If a person was examined more than once, both are from a
percentile bootstrap over persons with all their examinations, as are the intervals of all other numbers ({draws}
samples, seed {seed}). All intervals are 95 % intervals.

Beside the FVV, three plain numbers of the predicted stroke were evaluated as markers: its volume, the interquartile
range of its DWI signal relative to the mirrored side (Wouters et al. 2018), and its ADC relative to the rest of the
brain. Low values, of the ADC high ones, count as mismatch; this was fixed beforehand. Differences of AUC are paired
(DeLong; over persons if a person was examined more than once). Within sizes, only examinations of one range of lesion
volume are compared with each other.

P(mismatch) is a logistic curve on log(FVV + {pseudo} mL) with Platt's targets, evaluated on patients held out of its
fit (by fold, or by person for a whole ensemble). It holds for the prevalence of mismatch among these patients; for
another prevalence the odds change by Bayes' rule. Volumes: Bland-Altman limits of agreement (bias ± 1.96 SD), in mL
and as ratios on log(volume + {pseudo} mL), Lin's concordance, Spearman's correlation. Strata: lesion volume at
{volumes} mL, FLAIR-visible share at {shares} %, site, fold.

Software: {versions}.
"""
