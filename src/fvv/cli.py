"""The command line: `fvv VERB`. The only place that prints and decides exit codes.

An option either names a path, which a stage takes as an argument, or sets one value of the settings. Settings come from
the defaults, then the YAML file (`-c`), then `--set`, then the options that were given. What a verb needs is imported
when it runs, so that `fvv --help` stays quick and `fvv predict` never loads torch.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fvv import __version__
from fvv.config import Config, load_config
from fvv.errors import ConfigError, FvvError, as_fvv_error
from fvv.names import plain
from fvv.options import (
    add_overwrite,
    add_path,
    add_preparation_settings,
    add_setting,
    add_shard,
    add_truth,
    assignment,
    fold_and_path,
    named_path,
)
from fvv.stages import StageResult
from fvv.system.cores import refuse_little_memory
from fvv.system.ending import signals_end_the_run
from fvv.system.terminal import SafeStream, safe_streams, set_up_logging

EXIT_OK, EXIT_FAILED = 0, 1  # argparse itself exits with 2 on wrong usage; signals: see fvv.system.ending

_EXTRA_OF_VERB = {
    "simulate": "simulate",
    "prepare": "train",
    "train": "train",
    "convert": "train",
    "evaluate": "report",
    "report": "report",
    "card": "report",
    "demo": "all",
}
"""What a verb needs beyond the core installation."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after `fvv`; None: those this process was started with.

    Returns:
        0, or 1 where a patient or the whole verb failed or the standard output cannot be written (full disk), or 130
        after Ctrl-C, 143 after TERM, 129 after HUP. Wrong usage exits with 2. Where nobody reads the output any more,
        the work is done all the same.
    """
    with safe_streams() as output:
        try:
            code = _run(argv)
        except SystemExit:  # Help, the version, wrong usage.
            if _cannot_be_written(output):
                raise SystemExit(EXIT_FAILED) from None
            raise
        return code or (EXIT_FAILED if _cannot_be_written(output) else EXIT_OK)


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    set_up_logging(logging.DEBUG if options.verbose else logging.INFO)
    _let_others_tidy_quietly()
    with signals_end_the_run() as ending:
        try:
            refuse_little_memory()
            result: StageResult = options.run(options, _settings(options))
        except KeyboardInterrupt:
            atexit.register(_end_quietly)
            _complain(ending.message)
            return ending.exit_code
        except FvvError as error:
            return _failed(error, verbose=options.verbose)
        except (OSError, MemoryError, RecursionError) as error:
            return _failed(as_fvv_error(error), verbose=options.verbose)
        except ModuleNotFoundError as error:
            extra = _EXTRA_OF_VERB.get(options.verb)
            if extra is None or (error.name or "fvv").startswith("fvv"):
                raise
            hint = f"pip install '.[{extra}]' in the project's folder"
            return _failed(FvvError(f"fvv {options.verb} needs {error.name}, which is not installed", hint=hint))
        except ImportError as error:
            return _failed(as_fvv_error(error), verbose=options.verbose)
    if summary := result.summary():
        print("\n".join(plain(line) for line in summary.split("\n")))
    for failure in result.failures:
        named = failure.patient in failure.reason
        _complain(f"failed: {failure.reason if named else f'{failure.patient}: {failure.reason}'}")
    return EXIT_FAILED if result.failures else EXIT_OK


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options; help shows the defaults of `fvv.config`."""
    parser = argparse.ArgumentParser(
        prog="fvv",
        description="FLAIR Visibility Volume: how much of a stroke lesion would show on FLAIR, from b0 and b1000 "
        "alone. For research use only.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fvv {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = _common_options()
    for name, (add_options, run) in _VERBS.items():
        about = (add_options.__doc__ or "").partition("\n")[0]
        verb = verbs.add_parser(name, help=about, description=about, parents=[common], allow_abbrev=False)
        add_options(verb)
        verb.set_defaults(run=run)
    return parser


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("settings and messages")
    group.add_argument("-c", "--config", type=named_path, metavar="FILE", help="YAML file of settings (see configs/)")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        type=assignment,
        metavar="KEY=VALUE",
        help="one setting, such as train.epochs=10; may be repeated",
    )
    group.add_argument("--verbose", action="store_true", help="say more, and show where an error came from")
    return common


def _simulate_options(verb: argparse.ArgumentParser) -> None:
    """Stage 0: make a synthetic cohort."""
    add_setting(verb, "--cases", key="simulate.cases", meaning="number of examinations")
    add_setting(verb, "--seed", key="simulate.seed", meaning="same seed, same bytes")
    add_setting(verb, "--only", key="simulate.only", meaning="make this case alone, from 1")
    add_setting(verb, "--workers", key="simulate.workers", meaning="processes; 0: one per core")
    add_path(verb, "-o", "--output", default="simulated_data", meaning="folder to write")
    verb.add_argument("--overwrite", action="store_true", help="replace simulated cases of other settings")
    add_shard(verb)


def _simulate(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.simulate import simulate  # noqa: PLC0415

    return simulate(options.output, config.simulate, overwrite=options.overwrite, shard=options.shard)


def _verify_options(verb: argparse.ArgumentParser) -> None:
    """Stage 0: say what is wrong with a data set, before anything is computed."""
    add_path(verb, "-i", "--input", default="input_data", meaning="folder of patients")
    add_preparation_settings(verb, "prepare")
    _add_cohort_settings(verb)
    add_setting(verb, "--workers", key="prepare.workers", meaning="processes; 0: one per core")


def _add_cohort_settings(verb: argparse.ArgumentParser) -> None:
    add_setting(verb, "--quality", key="prepare.quality", meaning="examinations that are not assessable")
    meaning = "folders without a row in participants.tsv, where there is one"
    add_setting(verb, "--unlisted", key="prepare.unlisted", meaning=meaning)
    add_shard(verb)


def _verify(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.verify import verify  # noqa: PLC0415

    return verify(options.input, config.prepare, shard=options.shard)


def _prepare_options(verb: argparse.ArgumentParser) -> None:
    """Stage 1: read, mask, normalise and store every patient; draw the folds."""
    add_setting(verb, "-k", "--kfolds", key="prepare.kfolds", meaning="number of folds")
    meaning = "share of each fold's remaining persons that select the checkpoint"
    add_setting(verb, "-v", "--valid_proportion", key="prepare.valid_proportion", meaning=meaning)
    add_path(verb, "-i", "--input", default="input_data", meaning="folder of patients")
    add_path(verb, "-o", "--output", default="preprocessed_data", meaning="store to write or to bring up to date")
    add_path(verb, "--folds", meaning="split file to obey, in place of drawing one")
    add_setting(verb, "--profile", key="prepare.profile", meaning="preprocessing")
    add_preparation_settings(verb, "prepare")
    _add_cohort_settings(verb)
    meaning = "take out of the store what the data set no longer holds, and what was found unusable"
    verb.add_argument("--prune", action="store_true", help=meaning)
    add_setting(verb, "--seed", key="prepare.seed", meaning="seed of the split")
    add_setting(verb, "--workers", key="prepare.workers", meaning="processes; 0: one per core")
    add_overwrite(verb)


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
    add_setting(verb, "-n", "--name", key="train.name", meaning="name of the run")
    add_truth(verb, "-d", "--debug", key="train.debug", meaning="two batches of everything, nothing kept or logged")
    add_truth(verb, "-ram", "--preload_RAM", key="train.preload_ram", meaning="hold the whole data set in memory")
    add_setting(verb, "-w", "--wandb_project", key="train.wandb_project", meaning="Weights & Biases project")
    add_setting(
        verb, "--wandb-mode", key="train.wandb_mode", meaning="offline: a run on disk that `wandb sync` can send"
    )
    add_setting(verb, "--epochs", key="train.epochs", meaning="at most this many")
    add_setting(verb, "--max-time", key="train.max_time", meaning="start no epoch after this much, DD:HH:MM:SS")
    add_setting(verb, "--jobs", key="train.jobs", meaning="folds trained side by side")
    add_path(verb, "-i", "--input", default="preprocessed_data", meaning="store of prepared patients")
    add_path(verb, "-o", "--output", default="saved_models", meaning="folder for checkpoints and logs")


def _train(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.train import train_all_folds, train_fold  # noqa: PLC0415

    if options.all_folds:
        return train_all_folds(options.input, options.output, config.train)
    return train_fold(options.input, options.output, options.fold, config.train)


def _convert_options(verb: argparse.ArgumentParser) -> None:
    """Stage 3: turn the best checkpoint of each fold into an ONNX model, checked against PyTorch."""
    add_setting(verb, "-n", "--name", key="train.name", meaning="name of the run to convert")
    verb.add_argument(
        "--model",
        action="append",
        default=[],
        type=fold_and_path,
        metavar="FOLD=FILE",
        help="checkpoint to take for a fold, in place of its best by validation score; may be repeated",
    )
    add_path(verb, "--models-file", meaning="YAML file of such choices, fold: checkpoint")
    add_path(verb, "-i", "--input", default="saved_models", meaning="folder of checkpoints, or one checkpoint")
    add_path(verb, "--store", default="preprocessed_data", meaning="store that gives the slabs to check on")
    add_path(verb, "-o", "--output", default="saved_models_ONNX", meaning="folder for the models")
    add_overwrite(verb)


def _convert(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.choices import read_chosen_checkpoints  # noqa: PLC0415
    from fvv.stages.convert import convert  # noqa: PLC0415

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
    meaning = "folder of ONNX models (default: saved_models_ONNX, and where there is none, the model in the package)"
    add_path(verb, "-m", "--models", meaning=meaning)


def _doctor_options(verb: argparse.ArgumentParser) -> None:
    """Check that the models say here what they said where they were converted, and how fast."""
    _add_models(verb)
    add_setting(verb, "--device", key="doctor.device", meaning="where to compute: auto, gpu, cpu, cuda ...")
    add_setting(verb, "--threads", key="doctor.threads", meaning="0: one per core")


def _doctor(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.stages.doctor import doctor  # noqa: PLC0415

    return doctor(models_to_use(options.models), config.doctor)


def _evaluate_options(verb: argparse.ArgumentParser) -> None:
    """Stage 4: test every patient with the model of the fold that never saw them."""
    add_path(verb, "-i", "--input", default="preprocessed_data", meaning="store of prepared patients")
    meaning = "folders without a row in participants.tsv, with --external"
    add_setting(verb, "--unlisted", key="evaluate.unlisted", meaning=meaning)
    add_path(verb, "--external", meaning="in place of the store: labelled patients never seen, for the whole ensemble")
    meaning = "folder of ONNX models (default: saved_models_ONNX; with --external as in predict)"
    add_path(verb, "-m", "--models", meaning=meaning)
    add_path(verb, "-o", "--output", default="processed_data", meaning="folder for tables, pictures and the report")
    add_setting(verb, "--cutoff", key="decision.cutoff_ml", meaning="FVV (mL) under which a mismatch is likely")
    add_setting(verb, "--calibrate", key="evaluate.calibrate", meaning="write the curve of P(mismatch) into the models")
    add_overwrite(verb)


def _evaluate(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import OWN_MODELS, models_to_use  # noqa: PLC0415
    from fvv.stages.evaluate import (
        evaluate,
        evaluate_external,
    )

    # Out of fold only one's own models can be tested, and what writes into a bundle never writes into the package's.
    own = options.models or OWN_MODELS
    if options.external is not None:
        models = own if config.evaluate.calibrate else models_to_use(options.models)
        return evaluate_external(options.external, models, options.output, config.evaluate, overwrite=options.overwrite)
    return evaluate(options.input, own, options.output, config.evaluate, overwrite=options.overwrite)


def _report_options(verb: argparse.ArgumentParser) -> None:
    """Stage 4 again: rebuild tables, figures and the page of a finished evaluation; no new inference."""
    add_path(verb, "-i", "--input", default="processed_data", meaning="folder of the evaluation")
    add_path(verb, "--compare", meaning="evaluation of another model on the same patients, to compare with")
    add_setting(verb, "--cutoff", key="decision.cutoff_ml", meaning="FVV (mL) under which a mismatch is likely")


def _report(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.report import report  # noqa: PLC0415

    return report(options.input, config.evaluate, compare=options.compare)


def _card_options(verb: argparse.ArgumentParser) -> None:
    """Write the model card of a bundle from its evaluations."""
    add_path(verb, "-m", "--models", default="saved_models_ONNX", meaning="the bundle; the card is written into it")
    add_path(verb, "--out-of-fold", meaning="folder of its evaluation out of fold")
    add_path(verb, "--external", meaning="folder of its evaluation on new patients")
    add_path(verb, "--cohort", meaning="these patients, if simulated, for what the simulator knows of them")
    add_path(verb, "--real", meaning="folder of its evaluation on real patients")
    add_path(verb, "-o", "--output", meaning="write the card to this file too")
    verb.add_argument("--overwrite", action="store_true", help="replace a model card that was edited")


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
    """Stage 5: segment new patients and answer for each."""
    source = verb.add_mutually_exclusive_group()
    meaning = "folder of patients or of one patient (NIfTI or DICOM), DICOM zip file, or BIDS data set"
    source.add_argument("input", nargs="?", type=named_path, metavar="INPUT", help=meaning)
    add_path(source, "-d", "--inference_dir", default="input_data", meaning="the same, as an option")
    add_path(source, "--b1000", meaning="one patient's b1000, in place of a folder; with --b0 or --adc")
    add_path(verb, "--b0", meaning="the same patient's b0")
    add_path(verb, "--adc", meaning="the same patient's ADC map, from which b0 is computed")
    add_path(verb, "--mask", meaning="the same patient's brain mask")
    _add_models(verb)
    add_path(verb, "-o", "--output", meaning="folder for the results (default: beside each patient's images)")
    verb.add_argument(
        "-f",
        "--favorite",
        type=str.upper,
        choices=sorted(_DEVICES),
        help="where to compute; GPU falls back to the CPU, with a warning (default: a GPU where there is one)",
    )
    add_setting(verb, "--cutoff", key="decision.cutoff_ml", meaning="FVV (mL) under which a mismatch is likely")
    add_preparation_settings(verb, "predict")
    add_setting(verb, "--device", key="predict.device", meaning="where to compute, by name: auto, gpu, cpu, cuda ...")
    add_setting(verb, "--threads", key="predict.threads", meaning="0: one per core")
    add_setting(verb, "--folds", key="predict.folds", meaning="fuse only the first so many models; 0: all")
    verb.add_argument(
        "--series",
        type=int,
        action="append",
        metavar="N",
        help="DICOM: number of a series to take b0 and b1000 from; may be repeated (default: chosen by b-value)",
    )
    add_setting(verb, "--workers", key="predict.workers", meaning="patients side by side; 0: one per core")
    add_setting(verb, "--continue", key="predict.resume", meaning="keep finished patients: always so, with or without")
    add_setting(verb, "--layout", key="predict.layout", meaning="of the results")
    meaning = "replace results of other images, models or settings"
    add_setting(verb, "--overwrite", key="predict.overwrite", meaning=meaning)
    add_shard(verb)


_DEVICES = {"GPU": "gpu", "CPU": "cpu"}


def _predict(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.case import CaseFiles  # noqa: PLC0415
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.stages.predict import predict  # noqa: PLC0415

    settings = config.predict
    if options.favorite is not None:
        settings = settings.model_copy(update={"device": _DEVICES[options.favorite]})
    if options.series:
        settings = settings.model_copy(update={"series": tuple(options.series)})
    source: Path | CaseFiles = options.input or options.inference_dir
    if options.b1000 is not None:
        name = options.b1000.name.partition(".")[0]
        source = CaseFiles(name, options.b1000, b0=options.b0, adc=options.adc, mask=options.mask)
    elif options.b0 or options.adc or options.mask:
        raise ConfigError("--b0, --adc and --mask name one patient's files", hint="name b1000 too, with --b1000")
    return predict(source, models_to_use(options.models), options.output, settings, shard=options.shard)


def _gather_options(verb: argparse.ArgumentParser) -> None:
    """Join the shards of a run (--shard): write the tables for all, and say what is missing."""
    place = verb.add_mutually_exclusive_group(required=True)
    place.add_argument("folder", nargs="?", type=named_path, metavar="FOLDER", help="folder that the shards wrote into")
    add_path(place, "-o", "--output", meaning="the same, as an option")


def _gather(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.stages.gather import gather  # noqa: PLC0415

    folder = options.folder or options.output
    if (folder / "store.json").exists():  # Written by `prepare`.
        from fvv.stages.prepare import gather_store  # noqa: PLC0415  (needs the extra `train`)

        return gather_store(folder)
    return gather(folder)


def _decide_options(verb: argparse.ArgumentParser) -> None:
    """Stage 5 again: the answers of a finished prediction at another cut-off; no new inference."""
    verb.add_argument("results", type=named_path, metavar="RESULTS", help="folder that predict wrote")
    # Not `add_setting`: to decide again at a default would be to decide at nobody's cut-off.
    verb.add_argument(
        "--cutoff",
        type=float,
        required=True,
        dest="decision.cutoff_ml",
        metavar="CUTOFF",
        help="FVV (mL) under which a mismatch is likely",
    )
    add_overwrite(verb)


def _decide(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.decide import decide  # noqa: PLC0415

    return decide(options.results, config.decision, overwrite=options.overwrite)


def _demo_options(verb: argparse.ArgumentParser) -> None:
    """All stages, one after the other, on a small synthetic cohort; ends with the report."""
    add_path(verb, "-o", "--output", default="demo_run", meaning="folder to write, or to go on with")
    verb.add_argument("--cases", type=int, metavar="N", help="examinations to simulate (default: those of demo.yaml)")
    verb.add_argument("--seed", type=int, metavar="S", help="seed of every stage (default: those of demo.yaml)")


def _demo(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.stages.demo import demo  # noqa: PLC0415

    return demo(options.output, config, cases=options.cases, seed=options.seed)


_VERBS: Mapping[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[..., StageResult]]] = {
    "simulate": (_simulate_options, _simulate),
    "verify": (_verify_options, _verify),
    "prepare": (_prepare_options, _prepare),
    "train": (_train_options, _train),
    "convert": (_convert_options, _convert),
    "doctor": (_doctor_options, _doctor),
    "evaluate": (_evaluate_options, _evaluate),
    "report": (_report_options, _report),
    "card": (_card_options, _card),
    "predict": (_predict_options, _predict),
    "gather": (_gather_options, _gather),
    "decide": (_decide_options, _decide),
    "demo": (_demo_options, _demo),
}


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Single settings that were given, by dotted name."""
    return dict(options.set) | {key: value for key, value in vars(options).items() if "." in key}


def _settings(options: argparse.Namespace) -> Config:
    overrides = _overrides(options)
    if options.config is None and options.verb == "demo":
        with as_file(files("fvv") / "configs" / "demo.yaml") as path:
            return load_config(path, overrides)
    return load_config(options.config, overrides)


def _let_others_tidy_quietly() -> None:
    """Python starts a process that removes what workers leave behind; after Ctrl-C it would have the last word."""
    option = "ignore::UserWarning:multiprocessing.resource_tracker"
    if option not in sys.warnoptions:
        sys.warnoptions.append(option)


def _end_quietly() -> None:
    """What libraries fail to tidy after Ctrl-C (zarr's event loop, for one) is no news: our line stays the last."""
    logging.disable()
    sys.unraisablehook = lambda _: None


def _failed(error: FvvError, *, verbose: bool = False) -> int:
    if verbose:
        for line in traceback.format_exc().rstrip().split("\n"):
            _complain(line)
    _complain(f"error: {error}")
    return EXIT_FAILED


def _complain(line: str) -> None:
    print(plain(line), file=sys.stderr)


def _cannot_be_written(output: SafeStream) -> bool:
    """Whether the standard output is lost, which is said on stderr; a reader who left wants no more."""
    output.flush()
    if output.error is None:
        return False
    reason = getattr(output.error, "strerror", None) or output.error
    _complain(f"error: the standard output cannot be written: {reason}")
    return True
