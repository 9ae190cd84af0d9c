"""The verbs: which options each has, and which stage it runs.

What a verb needs is imported when it runs, so that `fvv --help` stays quick and `fvv predict` never loads torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fvv.cli.options import (
    add_overwrite,
    add_path,
    add_settings,
    add_shard,
    add_truth,
    fold_and_path,
    named_path,
)
from fvv.config import Config
from fvv.errors import ConfigError
from fvv.stages import StageResult

_READING = {
    "--mask-method": "preprocess.mask_method",
    "--mask-command": "preprocess.mask_command",
    "--b0-index": "preprocess.b0_index",
    "--b1000-index": "preprocess.b1000_index",
    "--b-value": "preprocess.b_value",
    "--resample-rois": "preprocess.resample_rois",
    "--resample-b0": "preprocess.resample_b0",
}
_CUTOFF = {"--cutoff": "decision.cutoff_ml"}
_WORKERS = {"--workers": "compute.workers"}
_ENGINE = {"--device": "compute.device", "--threads": "compute.threads"}
_DEVICES = {"GPU": "gpu", "CPU": "cpu"}


@dataclass(frozen=True, slots=True)
class Verb:
    """One word of the command line.

    Attributes:
        add_options: adds its options to its parser; the docstring is its help.
        run: calls its stage.
        extra: what it needs beyond the core installation; "": nothing.
    """

    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Config], StageResult]
    extra: str = ""


def _simulate_options(verb: argparse.ArgumentParser) -> None:
    """Stage 0: simulate a cohort."""
    add_settings(verb, {"--cases": "simulate.cases", "--seed": "simulate.seed", "--only": "simulate.only", **_WORKERS})
    add_path(verb, "-o", "--output", default="simulated_data", meaning="folder to write")
    add_overwrite(verb, "replace simulated cases of other settings")
    add_shard(verb)


def _simulate(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.simulate import simulate  # noqa: PLC0415

    return simulate(options.output, config.simulate, overwrite=options.overwrite, shard=options.shard)


def _verify_options(verb: argparse.ArgumentParser) -> None:
    """Stage 0: report what is wrong with a data set, before anything is computed."""
    add_path(verb, "-i", "--input", default="input_data", meaning="folder with a folder for each examination")
    add_settings(verb, {**_READING, "--quality": "prepare.quality", "--unlisted": "preprocess.unlisted", **_WORKERS})
    add_shard(verb)


def _verify(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.verify import verify  # noqa: PLC0415

    return verify(options.input, config.prepare, shard=options.shard)


def _prepare_options(verb: argparse.ArgumentParser) -> None:
    """Stage 1: read, mask, normalise and store every examination; split the persons into folds."""
    add_settings(verb, {"-k --kfolds": "prepare.kfolds", "-v --valid_proportion": "prepare.valid_proportion"})
    add_path(verb, "-i", "--input", default="input_data", meaning="folder with a folder for each examination")
    add_path(verb, "-o", "--output", default="preprocessed_data", meaning="store to write or to update")
    add_path(verb, "--folds", meaning="use this split file")
    add_settings(verb, {"--profile": "prepare.profile", **_READING, "--quality": "prepare.quality"})
    add_settings(verb, {"--unlisted": "preprocess.unlisted", "--seed": "prepare.seed", **_WORKERS})
    meaning = "remove from the store what the data set no longer holds or what became unusable"
    verb.add_argument("--prune", action="store_true", help=meaning)
    add_overwrite(verb)
    add_shard(verb)


def _prepare(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.prepare import prepare  # noqa: PLC0415

    return prepare(
        options.input,
        options.output,
        config.prepare,
        folds=options.folds,
        overwrite=options.overwrite,
        prune=options.prune,
        shard=options.shard,
    )


def _train_options(verb: argparse.ArgumentParser) -> None:
    """Stage 2: train the network on one fold, or on all."""
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("--fold", type=int, metavar="K", help="train this fold, 0 to kfolds - 1")
    which.add_argument("--all-folds", action="store_true", help="train every fold, one after the other")
    add_settings(verb, {"-n --name": "train.name"})
    add_truth(verb, "-d", "--debug", key="train.debug")
    add_truth(verb, "-ram", "--preload_RAM", key="train.preload_ram")
    add_settings(verb, {"-w --wandb_project": "train.wandb_project", "--wandb-mode": "train.wandb_mode"})
    add_settings(verb, {"--epochs": "train.epochs", "--max-time": "train.max_time", "--jobs": "train.jobs"})
    add_path(verb, "-i", "--input", default="preprocessed_data", meaning="store that prepare wrote")
    add_path(verb, "-o", "--output", default="saved_models", meaning="folder for checkpoints and logs")


def _train(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.train import train_all_folds, train_fold  # noqa: PLC0415

    if options.all_folds:
        return train_all_folds(options.input, options.output, config.train)
    return train_fold(options.input, options.output, options.fold, config.train)


def _convert_options(verb: argparse.ArgumentParser) -> None:
    """Stage 3: convert the best checkpoint of each fold to ONNX and compare it with PyTorch."""
    add_settings(verb, {"-n --name": "train.name"})
    meaning = "checkpoint of a fold instead of its best by validation score; may be repeated"
    verb.add_argument("--model", action="append", default=[], type=fold_and_path, metavar="FOLD=FILE", help=meaning)
    add_path(verb, "--models-file", meaning="YAML file of such choices, fold: checkpoint")
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
        overwrite=options.overwrite,
    )


def _add_models(verb: argparse.ArgumentParser) -> None:
    meaning = "folder of ONNX models (default: saved_models_ONNX, or the model in the package where that is missing)"
    add_path(verb, "-m", "--models", meaning=meaning)


def _doctor_options(verb: argparse.ArgumentParser) -> None:
    """Verify that the models reproduce their reference outputs on this machine; report their speed."""
    _add_models(verb)
    add_settings(verb, _ENGINE)


def _doctor(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.stages.doctor import doctor  # noqa: PLC0415

    return doctor(models_to_use(options.models), config.compute)


def _evaluate_options(verb: argparse.ArgumentParser) -> None:
    """Stage 4: evaluate every examination with the model of the fold whose training never saw that person."""
    add_path(verb, "-i", "--input", default="preprocessed_data", meaning="store that prepare wrote")
    meaning = "instead of the store: held-out labelled examinations, evaluated with the whole ensemble"
    add_path(verb, "--external", meaning=meaning)
    add_settings(verb, {"--unlisted": "preprocess.unlisted", "--b-value": "preprocess.b_value"})
    meaning = "folder of ONNX models (default: saved_models_ONNX; with --external as in predict)"
    add_path(verb, "-m", "--models", meaning=meaning)
    add_path(verb, "-o", "--output", default="processed_data", meaning="folder for tables, pictures and the report")
    add_settings(verb, {**_CUTOFF, "--calibrate": "evaluate.calibrate"})
    add_overwrite(verb)


def _evaluate(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import OWN_MODELS, models_to_use  # noqa: PLC0415
    from fvv.stages.evaluate import evaluate, evaluate_external  # noqa: PLC0415

    # Out of fold only the user's own models can be evaluated, and nothing writes into the bundle of the package.
    own = options.models or OWN_MODELS
    if options.external is None:
        return evaluate(options.input, own, options.output, config.evaluate, overwrite=options.overwrite)
    models = own if config.evaluate.calibrate else models_to_use(options.models)
    return evaluate_external(options.external, models, options.output, config.evaluate, overwrite=options.overwrite)


def _report_options(verb: argparse.ArgumentParser) -> None:
    """Stage 4 again: write tables, figures and report of a finished evaluation again, without inference."""
    add_path(verb, "-i", "--input", default="processed_data", meaning="folder of the evaluation")
    add_path(verb, "--compare", meaning="evaluation of another model on the same examinations, to compare with")
    add_settings(verb, _CUTOFF)


def _report(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.report import report  # noqa: PLC0415

    return report(options.input, config.evaluate, compare=options.compare)


def _card_options(verb: argparse.ArgumentParser) -> None:
    """Write the model card of a bundle from its evaluations."""
    add_path(verb, "-m", "--models", default="saved_models_ONNX", meaning="bundle, into which the card is written")
    add_path(verb, "--out-of-fold", meaning="folder of the evaluation out of fold")
    add_path(verb, "--external", meaning="folder of the evaluation on external patients")
    add_path(verb, "--cohort", meaning="folder of the simulated patients of --external (adds simulator ground truth)")
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


def _predict_options(verb: argparse.ArgumentParser) -> None:
    """Stage 5: segment new patients and give an answer for each."""
    source = verb.add_mutually_exclusive_group()
    meaning = "folder of one examination or of many (NIfTI or DICOM), DICOM zip file, or BIDS data set"
    source.add_argument("input", nargs="?", type=named_path, metavar="INPUT", help=meaning)
    add_path(source, "-d", "--inference_dir", default="input_data", meaning="INPUT, as an option")
    add_path(source, "--b1000", meaning="b1000 of one patient, instead of a folder; with --b0 or --adc")
    add_path(verb, "--b0", meaning="b0 of the same patient")
    add_path(verb, "--adc", meaning="ADC map of the same patient, from which b0 is computed")
    add_path(verb, "--mask", meaning="brain mask of the same patient")
    _add_models(verb)
    add_path(verb, "-o", "--output", meaning="folder for the results (default: beside the images of each patient)")
    meaning = "device; GPU falls back to the CPU, with a warning (default: a GPU where there is one)"
    verb.add_argument("-f", "--favorite", type=str.upper, choices=sorted(_DEVICES), help=meaning)
    add_settings(verb, {**_CUTOFF, **_READING, **_ENGINE, "--folds": "predict.folds"})
    meaning = "DICOM: number of a series that holds b0 or b1000; may be repeated (default: chosen by b-value)"
    verb.add_argument("--series", type=int, action="append", metavar="N", help=meaning)
    add_settings(verb, {**_WORKERS, "--layout": "predict.layout", "--overwrite": "predict.overwrite"})
    add_shard(verb)


def _predict(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.case import CaseFiles  # noqa: PLC0415
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.stages.predict import predict  # noqa: PLC0415

    settings = config.predict
    if options.favorite is not None:
        compute = settings.compute.model_copy(update={"device": _DEVICES[options.favorite]})
        settings = settings.model_copy(update={"compute": compute})
    if options.series:
        settings = settings.model_copy(update={"series": tuple(options.series)})
    source: Path | CaseFiles = options.input or options.inference_dir
    if options.b1000 is not None:
        name = options.b1000.name.partition(".")[0]
        source = CaseFiles(name, options.b1000, b0=options.b0, adc=options.adc, mask=options.mask)
    elif options.b0 or options.adc or options.mask:
        raise ConfigError("--b0, --adc and --mask name files of one patient", hint="name b1000 too, with --b1000")
    return predict(source, models_to_use(options.models), options.output, settings, shard=options.shard)


def _gather_options(verb: argparse.ArgumentParser) -> None:
    """Join the shards of a run (--shard): write the tables of all of them, and report what is missing."""
    place = verb.add_mutually_exclusive_group(required=True)
    place.add_argument("folder", nargs="?", type=named_path, metavar="FOLDER", help="folder that the shards wrote into")
    add_path(place, "-o", "--output", meaning="FOLDER, as an option")


def _gather(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.stages.gather import gather  # noqa: PLC0415

    folder = options.folder or options.output
    if (folder / "store.json").exists():  # Written by `prepare`.
        from fvv.stages.prepare import gather_store  # noqa: PLC0415  (needs the extra `train`)

        return gather_store(folder)
    return gather(folder)


def _decide_options(verb: argparse.ArgumentParser) -> None:
    """Stage 5 again: the answers of a finished prediction at another cut-off, without inference."""
    verb.add_argument("results", type=named_path, metavar="RESULTS", help="folder that predict wrote")
    # Not `add_settings`: the cut-off has to be given, a default would be nobody's choice.
    meaning = "FVV (mL) below which a mismatch is likely"
    verb.add_argument("--cutoff", type=float, required=True, dest="decision.cutoff_ml", metavar="CUTOFF", help=meaning)
    add_overwrite(verb)


def _decide(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.decide import decide  # noqa: PLC0415

    return decide(options.results, config.decision, overwrite=options.overwrite)


def _demo_options(verb: argparse.ArgumentParser) -> None:
    """Run all stages, one after the other, on a small simulated cohort; ends with the report."""
    add_path(verb, "-o", "--output", default="demo_run", meaning="folder to write, or to resume")
    verb.add_argument("--cases", type=int, metavar="N", help="number of examinations (default: as in demo.yaml)")
    verb.add_argument("--seed", type=int, metavar="S", help="seed of every stage (default: as in demo.yaml)")


def _demo(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.demo import demo  # noqa: PLC0415

    return demo(options.output, config, cases=options.cases, seed=options.seed)


VERBS: Mapping[str, Verb] = {
    "simulate": Verb(_simulate_options, _simulate, "simulate"),
    "verify": Verb(_verify_options, _verify),
    "prepare": Verb(_prepare_options, _prepare, "train"),
    "train": Verb(_train_options, _train, "train"),
    "convert": Verb(_convert_options, _convert, "train"),
    "doctor": Verb(_doctor_options, _doctor),
    "evaluate": Verb(_evaluate_options, _evaluate, "report"),
    "report": Verb(_report_options, _report, "report"),
    "card": Verb(_card_options, _card, "report"),
    "predict": Verb(_predict_options, _predict),
    "gather": Verb(_gather_options, _gather),
    "decide": Verb(_decide_options, _decide),
    "demo": Verb(_demo_options, _demo, "all"),
}
