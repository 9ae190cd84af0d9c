"""All sections together, and how they are read from a YAML file and the command line."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from fvv.config.base import Settings
from fvv.config.listen import ListenConfig
from fvv.config.shared import ClusterConfig, ComputeConfig, DecisionConfig, PostprocessConfig, PreprocessConfig
from fvv.config.simulate import SimulateConfig
from fvv.config.stages import CardConfig, ConvertConfig, EvaluateConfig, LabelConfig, PredictConfig, PrepareConfig
from fvv.config.train import TrainConfig
from fvv.errors import ConfigError
from fvv.names import did_you_mean
from fvv.system.regular import read_yaml


class Config(Settings):
    """The settings of all stages: what a YAML file may hold."""

    seed: int = Field(default=0, ge=0)
    """Seed of every stage that does not set its own."""
    preprocess: PreprocessConfig = PreprocessConfig()
    decision: DecisionConfig = DecisionConfig()
    postprocess: PostprocessConfig | None = None
    """What counts as FLAIR-visible, and what is removed from the fused stroke: convert stores it in the bundle; in
    evaluate and predict it replaces the setting of the bundle (default: use that of the bundle)."""
    compute: ComputeConfig = ComputeConfig()
    cluster: ClusterConfig = ClusterConfig()
    simulate: SimulateConfig = SimulateConfig()
    prepare: PrepareConfig = PrepareConfig()
    train: TrainConfig = TrainConfig()
    convert: ConvertConfig = ConvertConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    card: CardConfig = CardConfig()
    predict: PredictConfig = PredictConfig()
    label: LabelConfig = LabelConfig()
    listen: ListenConfig = ListenConfig()

    @model_serializer(mode="wrap")
    def _as_in_a_file(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As a YAML file holds it: each shared section once."""
        content: dict[str, Any] = handler(self)
        for stage in STAGES:
            for section in SHARED:
                content.get(stage, {}).pop(section, None)
        return content


SHARED = ("preprocess", "decision", "postprocess", "compute")
"""Sections that hold for every stage: a file states them once, `load_config` gives them to each stage."""
STAGES = ("simulate", "prepare", "train", "convert", "evaluate", "card", "predict", "label", "listen")
"""Sections of one stage each."""


def load_config(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read settings from a YAML file, then apply overrides.

    Args:
        path: YAML file with any of the sections of `Config`, or None for the defaults.
        overrides: dotted name to value, as {"train.epochs": 3}.

    Raises:
        ConfigError: unreadable file, unknown key or value out of range; the message names them.
    """
    path = None if path is None else Path(path)
    content: Any = {}
    if path is not None:
        content = read_yaml(path) or {}
        if not isinstance(content, dict):
            raise ConfigError("expected a mapping of sections", file=path, hint="see configs/default.yaml")
    for dotted, value in (overrides or {}).items():
        *sections, last = dotted.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{dotted}: {section} is no section", file=path)
        place[last] = value
    try:
        return Config.model_validate(_given_to_stages(content, path))
    except ValidationError as error:
        raise ConfigError(_first_error(error), file=path) from error


def _given_to_stages(content: Mapping[Any, Any], path: Path | None) -> dict[Any, Any]:
    """The content with the shared sections in every stage that uses them, and the seed in those without their own."""
    spread = dict(content)
    for stage in STAGES:
        section = content.get(stage, {})
        if not isinstance(section, dict):
            continue
        fields = Config.model_fields[stage].annotation.model_fields  # type: ignore[union-attr]  # Models, all of them.
        for name in SHARED:
            if name in section:
                key = (
                    f"{name}.{next(iter(section[name]))}" if isinstance(section[name], dict) and section[name] else name
                )
                raise ConfigError(
                    f"{stage}.{name} is no setting: the stages share one section", file=path, hint=f"set {key}"
                )
        shared = {name: content[name] for name in SHARED if name in fields and content.get(name) is not None}
        seed = {"seed": content["seed"]} if "seed" in fields and "seed" in content else {}
        if shared or seed or stage in content:
            spread[stage] = {**seed, **section, **shared}
    return spread


def _first_error(error: ValidationError) -> str:
    """The first of what pydantic found, in one line; what a shared section holds counts once."""
    first = error.errors()[0]
    found = list(dict.fromkeys(_where(each["loc"]) for each in error.errors()))
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    unknown = first["type"] == "extra_forbidden"
    # reprlib: a few lines of YAML can stand for a value of gigabytes.
    got = f"{first['msg']}, got {reprlib.repr(first.get('input'))[:100]}"
    what = f"no such setting{_moved(found[0]) or _nearest(found[0])}" if unknown else got
    return f"{found[0]}: {what}{more}"


def _moved(key: str) -> str:
    """Where a setting stands that was asked for in the section of a stage, but is shared."""
    stage, _, name = key.partition(".")
    sections: dict[str, type[BaseModel]] = {"preprocess": PreprocessConfig, "compute": ComputeConfig}
    homes = [section for section, model in sections.items() if stage in STAGES and name in model.model_fields]
    return f": the stages share one section, set {homes[0]}.{name}" if homes else ""


def _nearest(key: str) -> str:
    """The setting of the same name elsewhere, or the one spelt most alike; "" where there is none."""
    known = list(_names(Config))
    section, _, last = key.rpartition(".")
    for among in ([name for name in known if name.rpartition(".")[0] == section], known):
        by_last = {name.rpartition(".")[2]: name for name in reversed(among)}
        if near := get_close_matches(last, by_last, n=1):
            return f", did you mean {by_last[near[0]]!r}?"
    return did_you_mean(key, known)


def _names(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Dotted names of all settings and sections; what a shared section holds counts there alone."""
    for name, field in model.model_fields.items():
        if before and name in SHARED:
            continue
        yield f"{before}{name}"
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _names(kind, f"{before}{name}.")


def _where(location: tuple[int | str, ...]) -> str:
    shared = len(location) > 1 and location[0] in STAGES and location[1] in SHARED
    return ".".join(str(part) for part in location[shared:])
