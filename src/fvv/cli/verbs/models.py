"""Verbs for models of one's own: train, convert, evaluate, report, describe."""

from __future__ import annotations

import argparse
from pathlib import Path

from fvv.cli.options import add_overwrite, add_path, add_settings, fold_and_path, fold_or_all
from fvv.cli.verbs.verb import COHORT, CUTOFF, ENGINE, ON, Verb, add_computing, add_group
from fvv.config import Config
from fvv.errors import ConfigError
from fvv.stages import StageResult

_STORE = Path("preprocessed_data")
_OF_EXTERNAL = {**COHORT, "--b-value": "preprocess.b_value"}


def _train_options(verb: argparse.ArgumentParser) -> None:
    """Stage 2: train the network on one fold, or on all."""
    which = verb.add_mutually_exclusive_group(required=True)
    meaning = "fold to train, 0 to kfolds - 1; all: train one model on all persons, which leaves nobody for testing"
    which.add_argument("--fold", type=fold_or_all, metavar="K", help=meaning)
    which.add_argument("--all-folds", action="store_true", help="train every fold, one after the other")
    add_settings(verb, {"-n --name": "train.name"})
    add_path(verb, "-i", "--input", default="preprocessed_data", meaning="store that prepare wrote")
    add_path(verb, "-o", "--output", default="saved_models", meaning="folder for checkpoints and logs")
    add_group(verb, "weights to start from", {"--init": "train.init"})
    how_long = {"--epochs": "train.epochs", "--max-time": "train.max_time", "--debug": "train.debug"}
    add_group(verb, "how long", how_long)
    add_group(verb, "computing", {"--preload-ram": "train.preload_ram", "--jobs": "train.jobs", **ON})
    wandb = {"--wandb-project": "train.wandb_project", "--wandb-mode": "train.wandb_mode"}
    add_group(verb, "Weights & Biases", wandb)


def _train(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.train import train_all_folds, train_fold  # noqa: PLC0415

    if options.all_folds:
        return train_all_folds(options.input, options.output, config.train)
    return train_fold(options.input, options.output, options.fold, config.train)


TRAIN = Verb(
    _train_options,
    _train,
    "train",
    ("fvv train --all-folds -n FVV", "fvv train --fold 0 --debug", "fvv train --fold 0 --set train.batch_slabs=4"),
)


def _convert_options(verb: argparse.ArgumentParser) -> None:
    """Stage 3: convert the best checkpoint of each fold to ONNX and compare it with PyTorch."""
    add_settings(verb, {"-n --name": "train.name"})
    meaning = "checkpoint of a fold instead of its best by validation score; may be repeated"
    verb.add_argument("--model", action="append", default=[], type=fold_and_path, metavar="FOLD=FILE", help=meaning)
    add_path(verb, "--models-file", meaning="YAML file of such choices, fold: checkpoint")
    meaning = "make a bundle of the trained folds, although others are not trained"
    verb.add_argument("--incomplete", action="store_true", help=meaning)
    add_path(verb, "-i", "--input", default="saved_models", meaning="folder of checkpoints, or one checkpoint")
    add_path(verb, "--store", default="preprocessed_data", meaning="store with examinations for the comparison")
    add_path(verb, "-o", "--output", default="saved_models_ONNX", meaning="folder for the models")
    add_overwrite(verb)


def _convert(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.convert import convert, read_chosen_checkpoints  # noqa: PLC0415

    chosen = read_chosen_checkpoints(options.models_file) if options.models_file else {}
    chosen.update(options.model)
    return convert(
        options.input,
        options.store,
        options.output,
        config.convert,
        name=config.train.name,
        chosen=chosen or None,
        incomplete=options.incomplete,
        network=config.train.network.module,
        overwrite=options.overwrite,
    )


CONVERT = Verb(
    _convert_options,
    _convert,
    "train",
    ("fvv convert -n FVV", "fvv convert -n FVV --model 0=saved_models/FVV/fold_0/last.ckpt"),
)


def _evaluate_options(verb: argparse.ArgumentParser) -> None:
    """Stage 4: evaluate the models on persons they were not trained on: out of fold, or held out (--external)."""
    missing = "if it is missing, --external uses the model in the package, unless with --calibrate"
    add_path(verb, "-m", "--models", meaning=f"folder of ONNX models (default: saved_models_ONNX; {missing})")
    add_path(verb, "-o", "--output", default="processed_data", meaning="folder for tables, pictures and the report")
    add_settings(verb, {**CUTOFF, "--calibrate": "evaluate.calibrate"})
    add_overwrite(verb)
    add_computing(verb, ENGINE)
    store = verb.add_argument_group("out of fold: every examination of a store with the model of its fold")
    add_path(store, "-i", "--input", meaning=f"store that prepare wrote (default: {_STORE})")
    external = verb.add_argument_group("instead: held-out labelled examinations, with the whole ensemble")
    add_path(external, "--external", meaning="folder with a folder for each examination, as for prepare")
    add_settings(external, _OF_EXTERNAL)


def _evaluate(options: argparse.Namespace, config: Config) -> StageResult:
    return _evaluate_store(options, config) if options.external is None else _evaluate_external(options, config)


def _evaluate_store(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import own_models  # noqa: PLC0415
    from fvv.stages.evaluate import evaluate, evaluate_shard  # noqa: PLC0415

    if given := [flag for flag, key in _OF_EXTERNAL.items() if key in vars(options)]:
        raise ConfigError(
            f"{given[0]} belongs to --external: a store holds its examinations as they were read",
            hint=f"give {given[0]} to `fvv prepare`, or name examinations with --external",
        )
    paths = options.input or _STORE, own_models(options.models), options.output
    if options.shard is not None:
        overwrite = options.overwrite
        return evaluate_shard(*paths, config.evaluate, options.shard, external=False, overwrite=overwrite)
    return evaluate(*paths, config.evaluate, overwrite=options.overwrite)


def _evaluate_external(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import models_to_use, own_models  # noqa: PLC0415
    from fvv.stages.evaluate import evaluate_external, evaluate_shard  # noqa: PLC0415

    if options.input is not None:
        raise ConfigError(
            "--input names a store and --external examinations: one evaluation takes one of the two",
            hint="leave --external out to evaluate the store out of fold, or --input to evaluate the examinations",
        )
    # Nothing is written into the model in the package.
    models = own_models(options.models) if config.evaluate.calibrate else models_to_use(options.models)
    paths = options.external, models, options.output
    if options.shard is not None:
        return evaluate_shard(*paths, config.evaluate, options.shard, external=True, overwrite=options.overwrite)
    return evaluate_external(*paths, config.evaluate, overwrite=options.overwrite)


EVALUATE = Verb(
    _evaluate_options,
    _evaluate,
    "report",
    ("fvv evaluate --calibrate", "fvv evaluate --external held_out -m saved_models_ONNX -o external_results"),
)


def _report_options(verb: argparse.ArgumentParser) -> None:
    """Stage 4 again: rebuild tables, figures and report of a finished evaluation, without inference."""
    add_path(verb, "-i", "--input", default="processed_data", meaning="folder of the evaluation")
    add_path(verb, "--compare", meaning="evaluation of another model on the same examinations, to compare with")
    # Not `add_settings`: without the option, the cut-off of the last report is kept, not the setting's default.
    meaning = "FVV (mL) below which a mismatch is likely (default: that of the last report)"
    verb.add_argument(
        "--cutoff", type=float, default=argparse.SUPPRESS, dest="decision.cutoff_ml", metavar="CUTOFF", help=meaning
    )


def _report(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.report import report  # noqa: PLC0415

    return report(options.input, config.evaluate, compare=options.compare)


REPORT = Verb(_report_options, _report, "report", ("fvv report -i processed_data --compare other_evaluation",))


def _card_options(verb: argparse.ArgumentParser) -> None:
    """Write the model card of a bundle from its evaluations."""
    add_path(verb, "-m", "--models", default="saved_models_ONNX", meaning="bundle, into which the card is written")
    add_path(verb, "--out-of-fold", meaning="folder of the evaluation out of fold")
    add_path(verb, "--external", meaning="folder of the evaluation on external patients")
    add_path(
        verb,
        "--cohort",
        meaning="folder of the simulated patients of --external (adds what the simulator knows of them)",
    )
    add_path(verb, "--real", meaning="folder of the evaluation on real patients")
    add_path(verb, "-o", "--output", meaning="also write the card to this file")
    add_overwrite(verb, "replace a model card that was edited")


def _card(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.card import card  # noqa: PLC0415

    return card(
        options.models,
        config.card,
        out_of_fold=options.out_of_fold,
        external=options.external,
        real=options.real,
        cohort=options.cohort,
        copy=options.output,
        overwrite=options.overwrite,
    )


CARD = Verb(_card_options, _card, "report", ("fvv card --out-of-fold processed_data -o model-card.md",))
