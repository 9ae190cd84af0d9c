"""Verbs for new patients: predict, answer as a DICOM node or in a browser, apply another cut-off."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from fvv.cli.options import add_overwrite, add_path, add_repeated, add_settings, named_path
from fvv.cli.verbs.verb import CUTOFF, ENGINE, READING, Verb, add_computing, add_group, add_models
from fvv.config import Config
from fvv.errors import ConfigError
from fvv.stages import StageResult
from fvv.system.allocator import keep_freed_memory


def _predict_options(verb: argparse.ArgumentParser) -> None:
    """Stage 5: predict new patients: masks, FVV and an answer for each."""
    source = verb.add_mutually_exclusive_group()
    meaning = "folder of one examination or of many (NIfTI or DICOM), DICOM zip file, or BIDS data set"
    source.add_argument("source", nargs="?", type=named_path, metavar="INPUT", help=meaning)
    add_path(source, "-i", "--input", default="input_data", meaning="the same as INPUT")
    add_path(source, "--b1000", meaning="b1000 of one patient, instead of a folder; with --b0 or --adc")
    add_path(verb, "--b0", meaning="b0 of the same patient")
    add_path(verb, "--adc", meaning="ADC map of the same patient, from which b0 is computed")
    add_path(verb, "--mask", meaning="brain mask of the same patient")
    add_models(verb)
    add_path(verb, "-o", "--output", meaning="folder for the results (default: beside the images of each patient)")
    add_settings(verb, {"--layout": "predict.layout", "--overwrite": "predict.overwrite", **CUTOFF})
    add_settings(verb, {"--probabilities": "predict.probabilities", "--label-map": "predict.label_map"})
    add_settings(verb, {"--parquet": "predict.parquet"})
    images = verb.add_argument_group("images and masks")
    add_settings(images, READING)
    meaning = "DICOM: number of a series that holds b0 or b1000; may be repeated (default: chosen by b-value)"
    images.add_argument("--series", type=int, action="append", metavar="N", help=meaning)
    add_computing(verb, {"--first-models": "predict.folds", **ENGINE})


def _load_nibabel() -> None:
    """Load nibabel without pydicom, which it would load with all its decoders: a fifth of the time of all imports.

    nibabel uses pydicom to look into DICOM that is kept in a NIfTI header, which nothing here reads.
    """
    if "nibabel" in sys.modules or "pydicom" in sys.modules:
        return
    sys.modules["pydicom"] = None  # type: ignore[assignment]  # To `import`: not installed.
    try:
        import nibabel.nifti1  # noqa: F401, PLC0415
    finally:
        del sys.modules["pydicom"]


def _predict(options: argparse.Namespace, config: Config) -> StageResult:
    keep_freed_memory()
    gc.disable()  # While modules load, hardly anything is garbage: a tenth of the time.
    try:
        _load_nibabel()
        from fvv.io.case import CaseFiles  # noqa: PLC0415
        from fvv.io.shipped import models_to_use  # noqa: PLC0415
        from fvv.stages.predict import predict  # noqa: PLC0415
    finally:
        gc.freeze()  # What the modules hold stays: no collection need look at it.
        gc.enable()

    settings = config.predict
    if options.series:
        settings = settings.model_copy(update={"series": tuple(options.series)})
    source: Path | CaseFiles = options.source or options.input
    if options.b1000 is not None:
        if options.b0 is None and options.adc is None:
            raise ConfigError("--b1000 alone is not enough", hint="also give b0 with --b0, or an ADC map with --adc")
        name = options.b1000.name.partition(".")[0]
        source = CaseFiles(name, options.b1000, b0=options.b0, adc=options.adc, mask=options.mask)
    elif options.b0 or options.adc or options.mask:
        raise ConfigError("--b0, --adc and --mask need --b1000", hint="give the b1000 image of the same patient, too")
    return predict(source, models_to_use(options.models), options.output, settings, shard=options.shard)


PREDICT = Verb(
    _predict_options,
    _predict,
    "",
    (
        "fvv predict new_patient -o results",
        "fvv predict --b0 b0.nii.gz --b1000 b1000.nii.gz -o results",
        "fvv predict dicom_folder -o results --device cpu",
    ),
)


def _listen_options(verb: argparse.ArgumentParser) -> None:
    """Stage 5 as a DICOM node: receive studies, predict each, and send the results to other nodes."""
    add_path(verb, "--spool", default="fvv_spool", meaning="folder that holds the queue")
    add_models(verb)
    verb.add_argument("--status", action="store_true", help="print the state of the node of this spool, and exit")
    add_settings(verb, {"--port": "listen.port", "--aet": "listen.aet", "--bind": "listen.bind"})
    for flag, key, metavar in (("--send-to", "send_to", "NAME=AET@HOST:PORT"), ("--peer", "peers", "AET")):
        add_repeated(verb, flag, f"listen.{key}", metavar)
    add_group(
        verb, "queue", {"--quiet-s": "listen.quiet_s", "--keep-days": "listen.keep_days", "--page": "listen.page"}
    )
    add_group(verb, "answer", {**CUTOFF, **ENGINE})


def _listen(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.node.listen import listen  # noqa: PLC0415
    from fvv.node.status import status  # noqa: PLC0415

    if options.status:
        return status(options.spool)
    return listen(options.spool, models_to_use(options.models), config.listen, config.predict)


LISTEN = Verb(
    _listen_options,
    _listen,
    "dicom",
    ("fvv listen --aet FVV --send-to pacs=ARCHIVE@127.0.0.1:4242", "fvv listen --status"),
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


PAGE = Verb(_page_options, _page, "", ("fvv page -o fvv.html", "fvv page -m saved_models_ONNX -o ours.html"))


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


DECIDE = Verb(_decide_options, _decide, "", ("fvv decide results --cutoff 0.7",))


def _doctor_options(verb: argparse.ArgumentParser) -> None:
    """Verify that the models reproduce their reference outputs on this machine; report their speed."""
    add_models(verb)
    add_group(verb, "computing", ENGINE)


def _doctor(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.io.shipped import models_to_use  # noqa: PLC0415
    from fvv.stages.doctor import doctor  # noqa: PLC0415

    return doctor(models_to_use(options.models), config.compute)


DOCTOR = Verb(_doctor_options, _doctor, "", ("fvv doctor", "fvv doctor -m saved_models_ONNX --device cpu"))
