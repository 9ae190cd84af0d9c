"""Verbs to try fvv without data: a demo, and simulated cohorts."""

from __future__ import annotations

import argparse

from fvv.cli.options import add_overwrite, add_path, add_settings
from fvv.cli.verbs.verb import Verb, add_computing
from fvv.config import Config
from fvv.stages import StageResult


def _demo_options(verb: argparse.ArgumentParser) -> None:
    """Run all stages on a small simulated cohort and print where the report is."""
    add_path(verb, "-o", "--output", default="demo_run", meaning="folder to write, or to resume")
    verb.add_argument("--cases", type=int, metavar="N", help="number of examinations (default: as in demo.yaml)")
    verb.add_argument("--seed", type=int, metavar="S", help="seed of every stage (default: as in demo.yaml)")


def _demo(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.demo import demo  # noqa: PLC0415

    return demo(options.output, config, cases=options.cases, seed=options.seed)


DEMO = Verb(_demo_options, _demo, "all", ("fvv demo -o demo_run",))


def _simulate_options(verb: argparse.ArgumentParser) -> None:
    """Stage 0: simulate a cohort."""
    cohort = {"--cases": "simulate.cases", "--seed": "simulate.seed", "--only": "simulate.only"}
    inputs = {"--lesions": "simulate.lesions", "--heads": "simulate.heads", "--anatomies": "simulate.anatomies"}
    add_settings(verb, {**cohort, **inputs})
    add_path(verb, "-o", "--output", default="simulated_data", meaning="folder to write")
    add_overwrite(verb, "replace simulated cases of other settings")
    add_computing(verb)


def _simulate(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.simulate import simulate  # noqa: PLC0415

    return simulate(options.output, config.simulate, overwrite=options.overwrite, shard=options.shard)


SIMULATE = Verb(_simulate_options, _simulate, "simulate", ("fvv simulate --cases 12 -o simulated_data",))
