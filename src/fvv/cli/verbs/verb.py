"""What a verb is, and the options that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fvv.cli.options import add_path, add_settings, add_shard
from fvv.config import Config
from fvv.stages import StageResult

READING = {
    "--mask-method": "preprocess.mask_method",
    "--mask-command": "preprocess.mask_command",
    "--b0-index": "preprocess.b0_index",
    "--b1000-index": "preprocess.b1000_index",
    "--b-value": "preprocess.b_value",
    "--resample-rois": "preprocess.resample_rois",
    "--resample-b0": "preprocess.resample_b0",
}
COHORT = {"--partial-labels": "preprocess.partial_labels", "--unlisted": "preprocess.unlisted"}
CUTOFF = {"--cutoff": "decision.cutoff_ml"}
WORKERS = {"--workers": "compute.workers"}
ON = {"--on": "cluster.engine"}
ENGINE = {"--device": "compute.device", "--threads": "compute.threads"}


@dataclass(frozen=True, slots=True)
class Verb:
    """One word of the command line.

    Attributes:
        add_options: adds its options to its parser; the docstring is its help.
        run: calls its stage.
        extra: what it needs beyond the core installation; "": nothing.
        examples: command lines for the end of its help.
    """

    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Config], StageResult]
    extra: str = ""
    examples: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """What it does, in one line."""
        return (self.add_options.__doc__ or "").partition("\n")[0]


def add_group(verb: argparse.ArgumentParser, title: str, settings: dict[str, str]) -> None:
    """A group of the help whose options each set one setting."""
    add_settings(verb.add_argument_group(title), settings)


def add_computing(verb: argparse.ArgumentParser, engine: Mapping[str, str] | None = None) -> None:
    """Where a verb that goes through a cohort computes."""
    group = verb.add_argument_group("computing")
    add_settings(group, {**(engine or {}), **WORKERS, **ON})
    add_shard(group)


def add_models(verb: argparse.ArgumentParser) -> None:
    """The models of a verb that predicts."""
    meaning = "folder of ONNX models (default: saved_models_ONNX or, if it is missing, the model in the package)"
    add_path(verb, "-m", "--models", meaning=meaning)
