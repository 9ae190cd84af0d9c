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
    add_repeated,
    add_settings,
    add_shard,
    fold_and_path,
    fold_or_all,
    named_path,
)
from fvv.config import Config
from fvv.errors import ConfigError
from fvv.stages import Printed, StageResult

_READING = {
    "--mask-method": "preprocess.mask_method",
    "--mask-command": "preprocess.mask_command",
    "--b0-index": "preprocess.b0_index",
    "--b1000-index": "preprocess.b1000_index",
    "--b-value": "preprocess.b_value",
    "--resample-rois": "preprocess.resample_rois",
    "--resample-b0": "preprocess.resample_b0",
}
_COHORT = {"--partial-labels": "preprocess.partial_labels", "--unlisted": "preprocess.unlisted"}
_CUTOFF = {"--cutoff": "decision.cutoff_ml"}
_WORKERS = {"--workers": "compute.workers"}
_ON = {"--on": "cluster.engine"}
_ENGINE = {"--device": "compute.device", "--threads": "compute.threads"}


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


def _group(verb: argparse.ArgumentParser, title: str, settings: dict[str, str]) -> None:
    """A group of the help whose options each set one setting."""
    add_settings(verb.add_argument_group(title), settings)


def _add_computing(verb: argparse.ArgumentParser, engine: Mapping[str, str] | None = None) -> None:
    """Where a verb that goes through a cohort computes."""
    group = verb.add_argument_group("computing")
    add_settings(group, {**(engine or {}), **_WORKERS, **_ON})
    add_shard(group)


def _simulate_options(verb: argparse.ArgumentParser) -> None:
    """Stage 0: simulate a cohort."""
    cohort = {"--cases": "simulate.cases", "--seed": "simulate.seed", "--only": "simulate.only"}
    inputs = {"--lesions": "simulate.lesions", "--heads": "simulate.heads", "--anatomies": "simulate.anatomies"}
    add_settings(verb, {**cohort, **inputs})
    add_path(verb, "-o", "--output", default="simulated_data", meaning="folder to write")
    add_overwrite(verb, "replace simulated cases of other settings")
    _add_computing(verb)


def _simulate(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.simulate import simulate  # noqa: PLC0415

    return simulate(options.output, config.simulate, overwrite=options.overwrite, shard=options.shard)


def _verify_options(verb: argparse.ArgumentParser) -> None:
    """Stage 0: check a data set and report its problems; writes nothing."""
    add_path(verb, "-i", "--input", default="input_data", meaning="folder with a folder for each examination")
    _group(verb, "images and masks", {**_READING, "--quality": "prepare.quality", **_COHORT})
    _add_computing(verb)


def _verify(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.verify import verify  # noqa: PLC0415

    return verify(options.input, config.prepare, shard=options.shard)


def _prepare_options(verb: argparse.ArgumentParser) -> None:
    """Stage 1: read, mask, normalise and store every examination; split the persons into folds."""
    add_path(verb, "-i", "--input", default="input_data", meaning="folder with a folder for each examination")
    add_path(verb, "-o", "--output", default="preprocessed_data", meaning="store to write or to update")
    meaning = "remove examinations from the store that the data set no longer holds or that became unusable"
    verb.add_argument("--prune", action="store_true", help=meaning)
    add_overwrite(verb)
    split = verb.add_argument_group("split into folds")
    add_settings(split, {"-k --kfolds": "prepare.kfolds", "--valid-proportion": "prepare.valid_proportion"})
    add_settings(split, {"--seed": "prepare.seed"})
    add_path(split, "--split", meaning="use this split file")
    images = {"--profile": "prepare.profile", **_READING, "--quality": "prepare.quality"}
    _group(verb, "images and masks", {**images, **_COHORT})
    _add_computing(verb)


def _prepare(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.prepare import prepare  # noqa: PLC0415

    return prepare(
        options.input,
        options.output,
        config.prepare,
        folds=options.split,
        overwrite=options.overwrite,
        prune=options.prune,
        shard=options.shard,
    )


def _export_options(verb: argparse.ArgumentParser) -> None:
    """Write a labelled cohort as a raw data set of nnU-Net, with the folds of the store."""
    add_path(verb, "-i", "--input", default="input_data", meaning="what the store was prepared from")
    add_path(verb, "--store", default="preprocessed_data", meaning="store whose folds are used")
    verb.add_argument(
        "--nnunet", type=named_path, required=True, metavar="DIR", help="folder to write, DatasetNNN_Name"
    )
    add_overwrite(verb, "replace an earlier export")
    _group(verb, "images and masks", {**_READING, **_COHORT})
    add_settings(verb.add_argument_group("computing"), {**_WORKERS, **_ON})


def _export(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.export import export_nnunet  # noqa: PLC0415

    return export_nnunet(options.input, options.store, options.nnunet, config.prepare, overwrite=options.overwrite)


def _import_options(verb: argparse.ArgumentParser) -> None:
    """Write a raw data set of nnU-Net, or nnU-Net's predictions for it, as a cohort."""
    verb.add_argument("--nnunet", type=named_path, required=True, metavar="DIR", help="data set, DatasetNNN_Name")
    add_path(verb, "--labels", meaning="folder of other label maps, such as predictions (default: labelsTr)")
    add_path(verb, "-o", "--output", default="input_data", meaning="cohort to write")
    add_overwrite(verb, "replace an earlier import")


def _import(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.stages.import_nnunet import import_nnunet  # noqa: PLC0415

    return import_nnunet(options.nnunet, options.output, labels=options.labels, overwrite=options.overwrite)


def _train_options(verb: argparse.ArgumentParser) -> None:
    """Stage 2: train the network on one fold, or on all."""
    which = verb.add_mutually_exclusive_group(required=True)
    meaning = "train this fold, 0 to kfolds - 1; all: one model for everybody, which no examination is left to test"
    which.add_argument("--fold", type=fold_or_all, metavar="K", help=meaning)
    which.add_argument("--all-folds", action="store_true", help="train every fold, one after the other")
    add_settings(verb, {"-n --name": "train.name"})
    add_path(verb, "-i", "--input", default="preprocessed_data", meaning="store that prepare wrote")
    add_path(verb, "-o", "--output", default="saved_models", meaning="folder for checkpoints and logs")
    _group(verb, "weights to start from", {"--init": "train.init"})
    how_long = {"--epochs": "train.epochs", "--max-time": "train.max_time", "--debug": "train.debug"}
    _group(verb, "how long", how_long)
    _group(verb, "computing", {"--preload-ram": "train.preload_ram", "--jobs": "train.jobs", **_ON})
    wandb = {"--wandb-project": "train.wandb_project", "--wandb-mode": "train.wandb_mode"}
    _group(verb, "Weights & Biases", wandb)


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
    meaning = "make a bundle of the folds that are trained, where some are not"
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


def _add_models(verb: argparse.ArgumentParser) -> None:
    meaning = "folder of ONNX models (default: saved_models_ONNX, or the model in the package where that is missing)"
    add_path(verb, "-m", "--models", meaning=meaning)


def _doctor_options(verb: argparse.ArgumentParser) -> None:
    """Verify that the models reproduce their reference outputs on this machine; report their speed."""
    _add_models(verb)
    _group(verb, "computing", _ENGINE)


def _doctor(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.stages.doctor import doctor  # noqa: PLC0415

    return doctor(models_to_use(options.models), config.compute)


_STORE = Path("preprocessed_data")
_OF_EXTERNAL = {**_COHORT, "--b-value": "preprocess.b_value"}


def _evaluate_options(verb: argparse.ArgumentParser) -> None:
    """Stage 4: evaluate the models on persons they were not trained on: out of fold, or held out (--external)."""
    missing = "if it is missing, --external uses the model in the package, unless with --calibrate"
    add_path(verb, "-m", "--models", meaning=f"folder of ONNX models (default: saved_models_ONNX; {missing})")
    add_path(verb, "-o", "--output", default="processed_data", meaning="folder for tables, pictures and the report")
    add_settings(verb, {**_CUTOFF, "--calibrate": "evaluate.calibrate"})
    add_overwrite(verb)
    _add_computing(verb, _ENGINE)
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


def _report_options(verb: argparse.ArgumentParser) -> None:
    """Stage 4 again: rebuild tables, figures and report of a finished evaluation, without inference."""
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


def _page_options(verb: argparse.ArgumentParser) -> None:
    """Write one HTML file that predicts in a browser, with nothing installed and nothing uploaded."""
    add_path(verb, "-m", "--models", meaning="bundle that goes into the page (default: the model in the package)")
    add_path(verb, "-o", "--output", default="fvv.html", meaning="HTML file to write")
    add_overwrite(verb)


def _page(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.io.shipped import shipped_or_refuse  # noqa: PLC0415
    from fvv.stages.page import page  # noqa: PLC0415

    return page(options.models or shipped_or_refuse(), options.output, overwrite=options.overwrite)


def _predict_options(verb: argparse.ArgumentParser) -> None:
    """Stage 5: predict new patients: masks, FVV and an answer for each."""
    source = verb.add_mutually_exclusive_group()
    meaning = "folder of one examination or of many (NIfTI or DICOM), DICOM zip file, or BIDS data set"
    source.add_argument("source", nargs="?", type=named_path, metavar="INPUT", help=meaning)
    add_path(source, "-i", "--input", default="input_data", meaning="INPUT, as an option")
    add_path(source, "--b1000", meaning="b1000 of one patient, instead of a folder; with --b0 or --adc")
    add_path(verb, "--b0", meaning="b0 of the same patient")
    add_path(verb, "--adc", meaning="ADC map of the same patient, from which b0 is computed")
    add_path(verb, "--mask", meaning="brain mask of the same patient")
    _add_models(verb)
    add_path(verb, "-o", "--output", meaning="folder for the results (default: beside the images of each patient)")
    add_settings(verb, {"--layout": "predict.layout", "--overwrite": "predict.overwrite", **_CUTOFF})
    add_settings(verb, {"--probabilities": "predict.probabilities", "--label-map": "predict.label_map"})
    add_settings(verb, {"--parquet": "predict.parquet"})
    images = verb.add_argument_group("images and masks")
    add_settings(images, _READING)
    meaning = "DICOM: number of a series that holds b0 or b1000; may be repeated (default: chosen by b-value)"
    images.add_argument("--series", type=int, action="append", metavar="N", help=meaning)
    _add_computing(verb, {"--first-models": "predict.folds", **_ENGINE})


def _predict(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.case import CaseFiles  # noqa: PLC0415
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.stages.predict import predict  # noqa: PLC0415

    settings = config.predict
    if options.series:
        settings = settings.model_copy(update={"series": tuple(options.series)})
    source: Path | CaseFiles = options.source or options.input
    if options.b1000 is not None:
        if options.b0 is None and options.adc is None:
            raise ConfigError("--b1000 alone is not enough", hint="name b0 too, with --b0, or an ADC map with --adc")
        name = options.b1000.name.partition(".")[0]
        source = CaseFiles(name, options.b1000, b0=options.b0, adc=options.adc, mask=options.mask)
    elif options.b0 or options.adc or options.mask:
        raise ConfigError("--b0, --adc and --mask name files of one patient", hint="name b1000 too, with --b1000")
    return predict(source, models_to_use(options.models), options.output, settings, shard=options.shard)


def _label_options(verb: argparse.ArgumentParser) -> None:
    """Draft masks for readers to correct, with FLAIR registered to b0; then accept them."""
    meaning = "folder of examinations with FLAIR; with --accept, names of the examinations (default: all)"
    verb.add_argument("named", nargs="*", type=named_path, metavar="COHORT", help=meaning)
    add_path(verb, "-o", "--output", meaning="folder for the drafts, as `fvv prepare` reads it")
    add_path(verb, "--accept", meaning="folder of drafts, whose label maps are accepted as they are now")
    verb.add_argument("--reader", default="", metavar="NAME", help="who accepts")
    _add_models(verb)
    add_settings(verb, {"--visible-ratio": "label.visible_ratio"})
    add_overwrite(verb, "make drafts of other images, models or settings again; never what a reader has edited")
    _group(verb, "images and masks", _READING)
    add_settings(verb.add_argument_group("computing"), {**_ENGINE, **_WORKERS})


def _label(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.stages.label import accept, label  # noqa: PLC0415

    if options.accept is not None:
        return accept(options.accept, [str(name) for name in options.named], options.reader)
    if len(options.named) != 1 or options.output is None or options.reader:
        message = "expected one folder of examinations and a folder for the drafts"
        raise ConfigError(message, hint="fvv label COHORT -o DRAFTS; later fvv label --accept DRAFTS --reader NAME")
    models = models_to_use(options.models)
    return label(options.named[0], models, options.output, config.label, overwrite=options.overwrite)


def _agreement_options(verb: argparse.ArgumentParser) -> None:
    """How well two readers agree: mismatch, masks and volumes of two folders, with intervals over persons."""
    meaning = "folder of a reader: a folder for each examination, with stroke_roi and flairviz_roi"
    verb.add_argument("readers", nargs=2, type=named_path, metavar="FOLDER", help=meaning)
    add_path(verb, "-o", "--output", default="reader_agreement", meaning="folder for the tables")
    verb.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the bootstrap (default: 0)")


def _agreement(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.stages.agreement import agreement  # noqa: PLC0415

    first, second = options.readers
    return agreement(first, second, options.output, seed=options.seed)


def _listen_options(verb: argparse.ArgumentParser) -> None:
    """Stage 5 as a DICOM node: answer each study that is sent here, and send the results on."""
    add_path(verb, "--spool", default="fvv_spool", meaning="folder that holds the queue")
    _add_models(verb)
    verb.add_argument("--status", action="store_true", help="show how the node of the spool stands, and end")
    add_settings(verb, {"--port": "listen.port", "--aet": "listen.aet", "--bind": "listen.bind"})
    for flag, key, metavar in (("--send-to", "send_to", "NAME=AET@HOST:PORT"), ("--peer", "peers", "AET")):
        add_repeated(verb, flag, f"listen.{key}", metavar)
    _group(verb, "queue", {"--quiet-s": "listen.quiet_s", "--keep-days": "listen.keep_days", "--page": "listen.page"})
    _group(verb, "answer", {**_CUTOFF, **_ENGINE})


def _listen(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.node.listen import listen  # noqa: PLC0415
    from fvv.node.status import status  # noqa: PLC0415

    if options.status:
        return status(options.spool)
    return listen(options.spool, models_to_use(options.models), config.listen, config.predict)


def _gather_options(verb: argparse.ArgumentParser) -> None:
    """Join the shards of a run (--shard): write the tables of all of them, and report what is missing."""
    place = verb.add_mutually_exclusive_group(required=True)
    place.add_argument("folder", nargs="?", type=named_path, metavar="FOLDER", help="folder that the shards wrote into")
    add_path(place, "-o", "--output", meaning="FOLDER, as an option")


def _gather(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.io.shards import verb_of_shards  # noqa: PLC0415

    folder = options.folder or options.output
    verb = verb_of_shards(folder)
    if verb == "prepare":
        from fvv.stages.prepare import gather_store  # noqa: PLC0415  (needs the extra `train`)

        return gather_store(folder)
    if verb == "evaluate":
        from fvv.stages.evaluate import gather_evaluation  # noqa: PLC0415  (needs the extra `report`)

        return gather_evaluation(folder)
    from fvv.stages.gather import gather  # noqa: PLC0415

    return gather(folder)


def _decide_options(verb: argparse.ArgumentParser) -> None:
    """Stage 5 again: apply another cut-off to a finished prediction, without inference."""
    verb.add_argument("results", type=named_path, metavar="RESULTS", help="folder that predict wrote")
    # Not `add_settings`: the cut-off has to be given, a default would be nobody's choice.
    meaning = "FVV (mL) below which a mismatch is likely"
    verb.add_argument("--cutoff", type=float, required=True, dest="decision.cutoff_ml", metavar="CUTOFF", help=meaning)
    add_overwrite(verb)


def _decide(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.decide import decide  # noqa: PLC0415

    return decide(options.results, config.decision, overwrite=options.overwrite)


def _demo_options(verb: argparse.ArgumentParser) -> None:
    """Run all stages on a small simulated cohort and print where the report is."""
    add_path(verb, "-o", "--output", default="demo_run", meaning="folder to write, or to resume")
    verb.add_argument("--cases", type=int, metavar="N", help="number of examinations (default: as in demo.yaml)")
    verb.add_argument("--seed", type=int, metavar="S", help="seed of every stage (default: as in demo.yaml)")


def _demo(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.demo import demo  # noqa: PLC0415

    return demo(options.output, config, cases=options.cases, seed=options.seed)


def _settings_options(verb: argparse.ArgumentParser) -> None:
    """Print the settings in force (defaults, then -c, then --set), with what each means and its default."""
    verb.add_argument("section", nargs="?", default="", metavar="SECTION", help="only this section, such as train")
    meaning = "print the JSON Schema of a settings file instead, for editors"
    verb.add_argument("--json-schema", action="store_true", help=meaning)


def _settings(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.cli.settings import as_yaml, json_schema  # noqa: PLC0415

    return Printed(json_schema() if options.json_schema else as_yaml(config, options.section))


def _completion_options(verb: argparse.ArgumentParser) -> None:
    """Print a script that lets the shell complete verbs and options."""
    verb.add_argument("shell", choices=("bash", "zsh"), help="shell that reads the script")


def _completion(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.cli.completion import completion_script  # noqa: PLC0415
    from fvv.cli.parser import build_parser  # noqa: PLC0415

    return Printed(completion_script(build_parser(), options.shell).rstrip())


VERBS: Mapping[str, Verb] = {
    "simulate": Verb(_simulate_options, _simulate, "simulate", ("fvv simulate --cases 12 -o simulated_data",)),
    "verify": Verb(_verify_options, _verify, "", ("fvv verify -i input_data",)),
    "prepare": Verb(
        _prepare_options,
        _prepare,
        "train",
        ("fvv prepare", "fvv prepare -k 5 --split folds.tsv", "fvv prepare --shard 3/20"),
    ),
    "export": Verb(_export_options, _export, "", ("fvv export --nnunet nnUNet_raw/Dataset001_FVV",)),
    "import": Verb(
        _import_options,
        _import,
        "",
        (
            "fvv import --nnunet nnUNet_raw/Dataset001_FVV -o input_data",
            "fvv import --nnunet nnUNet_raw/Dataset001_FVV --labels fold_0/validation -o predicted_masks",
        ),
    ),
    "train": Verb(
        _train_options,
        _train,
        "train",
        ("fvv train --all-folds -n FVV", "fvv train --fold 0 --debug", "fvv train --fold 0 --set train.batch_slabs=4"),
    ),
    "convert": Verb(
        _convert_options,
        _convert,
        "train",
        ("fvv convert -n FVV", "fvv convert -n FVV --model 0=saved_models/FVV/fold_0/last.ckpt"),
    ),
    "doctor": Verb(_doctor_options, _doctor, "", ("fvv doctor", "fvv doctor -m saved_models_ONNX --device cpu")),
    "evaluate": Verb(
        _evaluate_options,
        _evaluate,
        "report",
        ("fvv evaluate --calibrate", "fvv evaluate --external held_out -m saved_models_ONNX -o external_results"),
    ),
    "report": Verb(_report_options, _report, "report", ("fvv report -i processed_data --compare other_evaluation",)),
    "card": Verb(_card_options, _card, "report", ("fvv card --out-of-fold processed_data -o model-card.md",)),
    "predict": Verb(
        _predict_options,
        _predict,
        "",
        (
            "fvv predict new_patient -o results",
            "fvv predict --b0 b0.nii.gz --b1000 b1000.nii.gz -o results",
            "fvv predict dicom_folder -o results --device cpu",
        ),
    ),
    "listen": Verb(
        _listen_options,
        _listen,
        "dicom",
        ("fvv listen --aet FVV --send-to pacs=ARCHIVE@127.0.0.1:4242", "fvv listen --status"),
    ),
    "gather": Verb(_gather_options, _gather, "", ("fvv gather results",)),
    "decide": Verb(_decide_options, _decide, "", ("fvv decide results --cutoff 0.7",)),
    "label": Verb(
        _label_options,
        _label,
        "label",
        ("fvv label input_data -o drafts", "fvv label --accept drafts Patient_1 --reader 'A. Reader'"),
    ),
    "agreement": Verb(_agreement_options, _agreement, "report", ("fvv agreement reader_a reader_b",)),
    "page": Verb(_page_options, _page, "", ("fvv page -o fvv.html", "fvv page -m saved_models_ONNX -o ours.html")),
    "demo": Verb(_demo_options, _demo, "all", ("fvv demo -o demo_run",)),
    "settings": Verb(
        _settings_options,
        _settings,
        "",
        ("fvv settings train", "fvv settings -c demo", "fvv settings --json-schema > fvv.schema.json"),
    ),
    "completion": Verb(_completion_options, _completion, "", ('eval "$(fvv completion bash)"',)),
}
GROUPS: Mapping[str, tuple[str, ...]] = {
    "try it": ("demo", "simulate"),
    "new patients": ("predict", "listen", "page", "decide", "doctor"),
    "a data set": ("label", "agreement", "verify", "prepare", "gather", "export", "import"),
    "models of your own": ("train", "convert", "evaluate", "report", "card"),
    "settings and shell": ("settings", "completion"),
}
"""The verbs as the help lists them."""
