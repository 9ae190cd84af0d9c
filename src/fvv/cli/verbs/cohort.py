"""Verbs for a labelled cohort: draft and compare labels, check, prepare, join shards, exchange with nnU-Net."""

from __future__ import annotations

import argparse

from fvv.cli.options import add_overwrite, add_path, add_settings, named_path
from fvv.cli.verbs.verb import COHORT, ENGINE, ON, READING, WORKERS, Verb, add_computing, add_group, add_models
from fvv.config import Config
from fvv.errors import ConfigError
from fvv.stages import StageResult


def _label_options(verb: argparse.ArgumentParser) -> None:
    """Draft masks for readers to correct, with FLAIR registered to b0; then accept them."""
    meaning = "folder of examinations with FLAIR; with --accept, names of the examinations (default: all)"
    verb.add_argument("named", nargs="*", type=named_path, metavar="COHORT", help=meaning)
    add_path(verb, "-o", "--output", meaning="folder for the drafts, as `fvv prepare` reads it")
    add_path(verb, "--accept", meaning="folder of drafts, whose label maps are accepted as they are now")
    verb.add_argument("--reader", default="", metavar="NAME", help="name of the reader who accepts")
    add_models(verb)
    add_settings(verb, {"--visible-ratio": "label.visible_ratio"})
    add_overwrite(verb, "make drafts of other images, models or settings again; never what a reader has edited")
    add_group(verb, "images and masks", READING)
    add_settings(verb.add_argument_group("computing"), {**ENGINE, **WORKERS})


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


LABEL = Verb(
    _label_options,
    _label,
    "label",
    ("fvv label input_data -o drafts", "fvv label --accept drafts Patient_1 --reader 'A. Reader'"),
)


def _agreement_options(verb: argparse.ArgumentParser) -> None:
    """Measure how well two readers agree on mismatch, masks and volumes, with intervals over persons."""
    meaning = "folder of a reader: a folder for each examination, with stroke_roi and flairviz_roi"
    verb.add_argument("readers", nargs=2, type=named_path, metavar="FOLDER", help=meaning)
    add_path(verb, "-o", "--output", default="reader_agreement", meaning="folder for the tables")
    verb.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the bootstrap (default: 0)")


def _agreement(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.stages.agreement import agreement  # noqa: PLC0415

    first, second = options.readers
    return agreement(first, second, options.output, seed=options.seed)


AGREEMENT = Verb(_agreement_options, _agreement, "report", ("fvv agreement reader_a reader_b",))


def _verify_options(verb: argparse.ArgumentParser) -> None:
    """Stage 0: check a data set and report its problems; writes nothing."""
    add_path(verb, "-i", "--input", default="input_data", meaning="folder with a folder for each examination")
    add_group(verb, "images and masks", {**READING, "--quality": "prepare.quality", **COHORT})
    add_computing(verb)


def _verify(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.verify import verify  # noqa: PLC0415

    return verify(options.input, config.prepare, shard=options.shard)


VERIFY = Verb(_verify_options, _verify, "", ("fvv verify -i input_data",))


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
    images = {"--profile": "prepare.profile", **READING, "--quality": "prepare.quality"}
    add_group(verb, "images and masks", {**images, **COHORT})
    add_computing(verb)


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


PREPARE = Verb(
    _prepare_options,
    _prepare,
    "train",
    ("fvv prepare", "fvv prepare -k 5 --split folds.tsv", "fvv prepare --shard 3/20"),
)


def _gather_options(verb: argparse.ArgumentParser) -> None:
    """Join the shards of a run (--shard): write the tables of the whole cohort, or name the shards that are missing."""
    place = verb.add_mutually_exclusive_group(required=True)
    place.add_argument("folder", nargs="?", type=named_path, metavar="FOLDER", help="folder that the shards wrote into")
    add_path(place, "-o", "--output", meaning="the same as FOLDER")


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


GATHER = Verb(_gather_options, _gather, "", ("fvv gather results",))


def _export_options(verb: argparse.ArgumentParser) -> None:
    """Write a labelled cohort as a raw data set of nnU-Net, with the folds of the store."""
    add_path(verb, "-i", "--input", default="input_data", meaning="what the store was prepared from")
    add_path(verb, "--store", default="preprocessed_data", meaning="store whose folds are used")
    verb.add_argument(
        "--nnunet", type=named_path, required=True, metavar="DIR", help="folder to write, DatasetNNN_Name"
    )
    add_overwrite(verb, "replace an earlier export")
    add_group(verb, "images and masks", {**READING, **COHORT})
    add_settings(verb.add_argument_group("computing"), {**WORKERS, **ON})


def _export(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.export import export_nnunet  # noqa: PLC0415

    return export_nnunet(options.input, options.store, options.nnunet, config.prepare, overwrite=options.overwrite)


EXPORT = Verb(_export_options, _export, "", ("fvv export --nnunet nnUNet_raw/Dataset001_FVV",))


def _import_options(verb: argparse.ArgumentParser) -> None:
    """Write a raw data set of nnU-Net, or nnU-Net's predictions for it, as a cohort."""
    verb.add_argument("--nnunet", type=named_path, required=True, metavar="DIR", help="data set, DatasetNNN_Name")
    add_path(verb, "--labels", meaning="folder of other label maps, such as predictions (default: labelsTr)")
    add_path(verb, "-o", "--output", default="input_data", meaning="cohort to write")
    add_overwrite(verb, "replace an earlier import")


def _import(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.stages.import_nnunet import import_nnunet  # noqa: PLC0415

    return import_nnunet(options.nnunet, options.output, labels=options.labels, overwrite=options.overwrite)


IMPORT = Verb(
    _import_options,
    _import,
    "",
    (
        "fvv import --nnunet nnUNet_raw/Dataset001_FVV -o input_data",
        "fvv import --nnunet nnUNet_raw/Dataset001_FVV --labels fold_0/validation -o predicted_masks",
    ),
)
