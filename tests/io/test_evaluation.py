"""What a refusal of another evaluation says: options that give the settings of the finished one."""

from __future__ import annotations

import shlex

import pytest

from fvv.cli.options import assignment
from fvv.config import DecisionConfig, EvaluateConfig, PostprocessConfig, PreprocessConfig, load_config
from fvv.io.evaluation import _options

DEFAULT = EvaluateConfig()
OTHERS = [
    EvaluateConfig(visible_fraction_label=0.5, metrics=("a.b:c", "a.b:d"), heatmaps=False),
    EvaluateConfig(decision=DecisionConfig(cutoff_ml=0.8, prevalence=0.3)),
    EvaluateConfig(postprocess=PostprocessConfig(minimum_lesion_mm3=30, maximum_relative_adc=0.9)),
    EvaluateConfig(postprocess=PostprocessConfig(), preprocess=PreprocessConfig(unlisted="own-person", b_value=900)),
]


def options(wanted: EvaluateConfig, given: EvaluateConfig) -> list[str]:
    """The words of the command line that make of the settings given those wanted."""
    names = [name for name in EvaluateConfig.model_fields if getattr(wanted, name) != getattr(given, name)]
    return shlex.split(_options(wanted, given, names))


@pytest.mark.parametrize("wanted", [DEFAULT, *OTHERS])
@pytest.mark.parametrize("given", [DEFAULT, *OTHERS])
def test_the_options_named_give_the_settings_of_the_finished_evaluation(
    wanted: EvaluateConfig, given: EvaluateConfig
) -> None:
    words = options(given, DEFAULT) + options(wanted, given)
    assert words[::2] == ["--set"] * (len(words) // 2)
    assert load_config(overrides=dict(assignment(word) for word in words[1::2])).evaluate == wanted
