"""The methods text says what was done, and nothing that was not."""

from __future__ import annotations

import pytest

from fvv.analysis.methods import methods_paragraphs
from fvv.config import EvaluateConfig, PostprocessConfig
from fvv.schemas.summary import EXTERNAL, OUT_OF_FOLD

PIECES = PostprocessConfig(minimum_lesion_mm3=20)


def text_of(kind: str, **settings: object) -> str:
    return " ".join(methods_paragraphs(kind, "label", EvaluateConfig(**settings)))


@pytest.mark.parametrize(
    ("kind", "settings", "said", "unsaid"),
    [
        (EXTERNAL, {"own_masks": True}, "a given mask was only compared", "the given one if there was one"),
        (EXTERNAL, {"own_masks": False}, "the given one if there was one", "only compared"),
        (OUT_OF_FOLD, {"own_masks": True}, "the given one if there was one", "only compared"),
        (
            EXTERNAL,
            {"postprocess": PIECES},
            "Components of the stroke under 20 mm³ were removed",
            "Nothing was removed",
        ),
        (
            EXTERNAL,
            {"postprocess": PostprocessConfig()},
            "Nothing was removed from the predicted stroke",
            "were removed",
        ),
        (
            EXTERNAL,
            {"postprocess": PostprocessConfig(minimum_visible_share=0.15)},
            "less than 15 % was FLAIR-visible to at least half of the models count as not visible.",
            "unless their ADC",
        ),
        (
            EXTERNAL,
            {"postprocess": PostprocessConfig(minimum_visible_share=0.15, maximum_relative_adc=0.88)},
            "count as not visible, unless their ADC was at least 0.88 of the brain's median.",
            "Nothing was removed",
        ),
        (
            EXTERNAL,
            {"postprocess": PostprocessConfig(visible_logit=-0.75)},
            "A voxel was FLAIR-visible to a model where its logit was over -0.75.",
            "count as not visible",
        ),
        (EXTERNAL, {"postprocess": PIECES}, "were removed", "count as not visible"),
        (EXTERNAL, {}, "failed quality control were not segmented", "only compared"),
        (OUT_OF_FOLD, {}, "cross-validation model", "were not segmented"),
        (OUT_OF_FOLD, {}, "A structure that no reader outlined is unknown, not empty", "were not segmented"),
    ],
)
def test_the_methods_say_how_it_was_done(kind: str, settings: dict[str, object], said: str, unsaid: str) -> None:
    text = text_of(kind, **settings)
    assert said in text
    assert unsaid not in text
