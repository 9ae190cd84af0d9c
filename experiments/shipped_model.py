"""Train the model in the package again, evaluate it, and put it into the package: what `make model` runs.

    python experiments/shipped_model.py [--anatomies DIR] [--lesions DIR] [--heads DIR] [--init BUNDLE]

Each step is a command of `fvv`. The same command resumes: a step that is finished does nothing, or is skipped. After a
change of settings, name another folder with --run. --dry-run prints the commands and runs none.

The training has three phases, each with settings of its own; a phase ends with a bundle, and each fold of the next one
starts from the model of the same fold. Phase 0: from random weights, on average heads; with --init, a bundle replaces
it. Phase 1: fine-tuning on a cohort of individual and real heads. Phase 2: the same at full resolution.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from fvv.config import load_config
from fvv.errors import FvvError
from fvv.io.nifti import read_volume
from fvv.simulator.lesions import tentorium_mm

ROOT = Path(__file__).resolve().parents[1]
IMAGES = (".nii", ".nii.gz")
# The cohort of phases 1 and 2, simulated with the settings of phase 1. Each part has a seed of its own, which names its
# persons: those of phase 0 (seed 100) could only train.
INDIVIDUAL = ("--seed", "2210", "--cases", "420")
FEWER_STROKE_FREE = ("--set", "simulate.stroke_free_share=0.2")
STROKES = ("--seed", "2340", "--cases", "120", *FEWER_STROKE_FREE)
# Stroke shapes are computed.
COMPUTED = ("--seed", "2330", "--cases", "140", *FEWER_STROKE_FREE)
# Strokes of the first hours, of every size: T2 is not changed yet.
HYPERACUTE = ("--seed", "2320", "--cases", "40", "--set", "simulate.t2_amplitude_range=[0.001, 0.02]")
HYPERACUTE += ("--set", "simulate.large_lesion_share=0.5", "--set", "simulate.punctate_share=0.1")
HYPERACUTE += ("--set", "simulate.stroke_free_share=0")
# Strokes of every size that are hardly brighter than normal tissue on b1000.
FAINT = ("--seed", "2472", "--cases", "140", "--set", "simulate.adc_factor_range=[0.66, 0.8]")
FAINT += ("--set", "simulate.t2_amplitude_range=[0.001, 0.4]", "--set", "simulate.large_lesion_share=0.4")
# Strokes of cerebellum and brainstem: few of the parts above have one.
POSTERIOR = ("--seed", "2352", "--cases", "160", "--set", "simulate.posterior_fossa_share=1")
# Strokes with the masks of small ones.
SMALL = ("--seed", "2362", "--cases", "140", "--set", "simulate.lesion_mask_share=1")
SMALL_ML = 2.0
HARDLY_STROKE_FREE = ("--set", "simulate.stroke_free_share=0.05")
# P(mismatch) is fitted on persons who trained nothing.
CALIBRATION = ("--seed", "5000", "--cases", "160")
# The test patients have the scanner of phases 1 and 2: distortion near air from physics, an array coil.
SCANNER = ("--set", "simulate.near_air=physics", "--set", "simulate.receive_coil=array")


@dataclass(frozen=True, slots=True)
class Step:
    """One command.

    Attributes:
        words: the command; `fvv` and `python` are those of this environment.
        made: a file that the command writes last: where it exists, the command is skipped. None: the command finds out
            for itself what is left to do.
    """

    words: tuple[str, ...]
    made: Path | None = None

    @property
    def argv(self) -> list[str]:
        """The command as it is started."""
        program = [sys.executable, "-m", "fvv"] if self.words[0] == "fvv" else [sys.executable]
        return [*program, *self.words[1:]]


@dataclass(frozen=True, slots=True)
class Shares:
    """A folder of files that share their names between training and test.

    Attributes:
        setting: the setting that names the folder; `files`: the one that lists the files.
    """

    setting: str
    files: str
    folder: Path
    train: tuple[str, ...]
    test: tuple[str, ...]

    def options(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The options of `fvv simulate` that use these files of the folder."""
        named = f"simulate.{self.files}={json.dumps(names)}"
        return "--set", f"simulate.{self.setting}={self.folder}", "--set", named


def shared_out(setting: str, files: str, folder: Path, held_out: list[str]) -> Shares:
    """Share out the files of a folder: those that match a pattern are held out from training.

    Raises:
        SystemExit: there is nothing to train on, or nothing to test on.
    """
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    names = sorted(name for name in there if name.endswith(IMAGES) and not name.startswith("."))
    test = tuple(name for name in names if any(Path(name).match(pattern) for pattern in held_out))
    train = tuple(name for name in names if name not in test)
    if not train or not test:
        found = f"{len(train)} files to train on and {len(test)} to test on ({' '.join(held_out)})"
        raise SystemExit(f"error: {folder}: expected files of both kinds, found {found}")
    return Shares(setting, files, folder, train, test)


@dataclass(frozen=True, slots=True)
class MaskPlace:
    """Where a stroke mask lies, and its size.

    Attributes:
        volume_ml: of the mask.
        centre_mm: x, y, z of its centre in MNI space.
    """

    volume_ml: float
    centre_mm: tuple[float, float, float]

    @property
    def infratentorial(self) -> bool:
        """Whether its centre lies in cerebellum or brainstem, by boxes as coarse as those of the simulator."""
        x, y, z = self.centre_mm
        brainstem = abs(x) < 18 and -46 < y < -10 and z < -12
        return brainstem or (y < -35 and z < float(tentorium_mm(np.asarray(x))))


def mask_place(path: Path) -> MaskPlace:
    """Measure a stroke mask in MNI space.

    Raises:
        SystemExit: unreadable or empty.
    """
    try:
        volume = read_volume(path)
    except FvvError as error:
        raise SystemExit(f"error: {error}") from error
    inside = np.argwhere(volume.array > 0)
    if not len(inside):
        raise SystemExit(f"error: {path}: an empty mask: expected the voxels of one stroke")
    x, y, z = nib.affines.apply_affine(volume.affine, inside).mean(axis=0)
    return MaskPlace(len(inside) * volume.voxel_volume_ml, (float(x), float(y), float(z)))


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of the training: all folds, and the bundle of their models.

    Attributes:
        name: of the run.
        settings, converted_with: settings files of `train` and of `convert`.
        store: prepared examinations.
        init: the bundle to start from; "": random weights.
        last: number of folds of which the last epoch is converted; 0: of all folds the best one. In a short training
            with few validation examinations, the best one is a matter of chance.
    """

    name: str
    settings: Path
    converted_with: Path
    store: Path
    bundle: Path
    init: str = ""
    last: int = 0

    def steps(self, models: Path) -> Iterator[Step]:
        """Train and convert. Once its bundle is there, a phase is over: `shipped` may be another model by then."""
        made = self.bundle / "bundle.json"
        start = ("--init", self.init) if self.init else ()
        train = ("fvv", "train", "-c", str(self.settings), "--all-folds", "-n", self.name, *start)
        yield Step((*train, "-i", str(self.store), "-o", str(models)), made)
        chosen: list[str] = []
        for fold in range(self.last):
            chosen += ["--model", f"{fold}={models / self.name / f'fold_{fold}' / 'last.ckpt'}"]
        convert = ("fvv", "convert", "-c", str(self.converted_with), "-n", self.name, *chosen)
        yield Step((*convert, "-i", str(models), "--store", str(self.store), "-o", str(self.bundle)), made)


def steps(options: argparse.Namespace) -> Iterator[Step]:
    """All commands, in order."""
    run, settings, first = options.run, ("-c", str(options.settings)), ("-c", str(options.phase1))
    bundle, store, models = run / "bundle", run / "preprocessed_data", run / "saved_models"
    anatomies = _shared(options, "anatomies", "anatomy_files")
    lesions = _shared(options, "lesions", "lesion_files")
    train_on = (*_train_on(anatomies), *_train_on(lesions))

    init, start = options.init, run / "phase0"
    if not init:
        init, before = str(start / "bundle"), start / "preprocessed_data"
        yield Step(("fvv", "simulate", *settings, "-o", str(start / "input_data")))
        yield Step(("fvv", "prepare", *settings, "-i", str(start / "input_data"), "-o", str(before)))
        phase = Phase(f"{options.name}-phase0", options.settings, options.settings, before, start / "bundle")
        yield from phase.steps(models)

    folds = load_config(options.phase1).prepare.kfolds
    yield from _cohort(options, _train_on(anatomies), lesions)
    yield Step(("fvv", "prepare", *first, "-i", str(run / "cohort"), "-o", str(store)))
    middle = run / "phase1_bundle"
    tuning = Phase(f"{options.name}-phase1", options.phase1, options.phase1, store, middle, init, last=folds)
    yield from tuning.steps(models)
    full = Phase(options.name, options.phase2, options.settings, store, bundle, str(middle), last=folds)
    yield from full.steps(models)

    tested, calibration, external = ("-m", str(bundle)), run / "calibration", run / "external"
    strokes = run / "calibration_patients"
    yield Step(("fvv", "simulate", *first, *CALIBRATION, *train_on, "-o", str(strokes)))
    as_new = ("--set", "evaluate.own_masks=true", *settings, *tested)
    calibrate = ("fvv", "evaluate", "--calibrate", "--external", str(strokes), *as_new, "-o", str(calibration))
    yield Step(calibrate, calibration / "summary.json")
    patients = run / "new_patients"
    test_on = [word for one in (anatomies, lesions) if one for word in one.options(one.test)]
    count = ("--seed", str(options.test_seed), "--cases", str(options.test_cases))
    yield Step(("fvv", "simulate", *settings, *SCANNER, *test_on, *count, "-o", str(patients)))
    evaluate = ("fvv", "evaluate", "--external", str(patients), *as_new, "-o", str(external))
    yield Step(evaluate, external / "summary.json")

    measured = ("--external", str(external), "--cohort", str(patients))
    real = ("--real", str(options.real)) if options.real else ()
    yield Step(("fvv", "card", *settings, *tested, *measured, *real, "-o", str(options.card)))
    yield Step(("fvv", "doctor", *tested))


def _shared(options: argparse.Namespace, setting: str, files: str) -> Shares | None:
    folder = getattr(options, setting)
    return shared_out(setting, files, folder, getattr(options, f"test_{setting}")) if folder else None


def _train_on(shares: Shares | None) -> tuple[str, ...]:
    return shares.options(shares.train) if shares else ()


def _cohort(options: argparse.Namespace, anatomies: tuple[str, ...], masks: Shares | None) -> Iterator[Step]:
    """The simulated cohorts of phases 1 and 2, and the folder of links that joins them."""
    lesions = _train_on(masks)
    parts = {
        "individual": (*INDIVIDUAL, *anatomies, *lesions),
        "strokes": (*STROKES, *anatomies, *lesions),
        "computed": (*COMPUTED, *anatomies),
        "hyperacute": (*HYPERACUTE, *anatomies, *lesions),
        "faint": (*FAINT, *HARDLY_STROKE_FREE, *anatomies, *lesions),
        "posterior": (*POSTERIOR, *HARDLY_STROKE_FREE, *anatomies),
    }
    if masks:
        places = {name: mask_place(masks.folder / name) for name in masks.train}
        # Where no mask is of the kind, "posterior" has computed shapes alone, and "small" is left out.
        if chosen := tuple(name for name, place in places.items() if place.infratentorial):
            parts["posterior"] += masks.options(chosen)
        if chosen := tuple(name for name, place in places.items() if place.volume_ml < SMALL_ML):
            parts["small"] = (*SMALL, *HARDLY_STROKE_FREE, *anatomies, *masks.options(chosen))
    if options.heads:
        count = ("--seed", str(options.head_seed), "--cases", str(options.head_cases))
        parts["head"] = (*count, "--set", f"simulate.heads={options.heads}", *lesions)
    for name, words in parts.items():
        yield Step(("fvv", "simulate", "-c", str(options.phase1), *words, "-o", str(options.run / "parts" / name)))
    joined = [f"{name}={options.run / 'parts' / name}" for name in parts]
    yield Step(("python", str(ROOT / "experiments" / "join_cohorts.py"), *joined, "-o", str(options.run / "cohort")))


def ship(bundle: Path, package: Path, name: str) -> None:
    """Put the bundle into the package, instead of any other: no model of an earlier name stays there.

    Args:
        bundle: folder of the bundle.
        package: folder of the package's models.
        name: name of the bundle there.
    """
    shutil.rmtree(package, ignore_errors=True)
    # Where setuptools gathers the next wheel, which would keep the earlier model, and the samples that it made.
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    shutil.copytree(bundle, package / name, ignore=shutil.ignore_patterns(".*"))


def _run(argv: Sequence[str]) -> int:
    """Run a command to its end and return its exit code.

    The command handles the signals, and says how to resume: Ctrl-C reaches it from the terminal, TERM is passed on.
    `subprocess.run` would kill it a quarter of a second after Ctrl-C, and leave its processes.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None), signal.getsignal(signal.SIGTERM)
    try:
        command = subprocess.Popen(argv)
        signal.signal(signal.SIGTERM, lambda *_: command.terminate())
        return command.wait()
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def main() -> None:
    options = _options()
    for step in steps(options):
        done = step.made is not None and step.made.exists()
        print(f"{'# done: ' if done else ''}{shlex.join(step.words)}", flush=True)
        if not done and not options.dry_run and (code := _run(step.argv)):
            raise SystemExit(code)
    if not options.dry_run:
        ship(options.run / "bundle", options.package, options.name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = {"type": Path, "metavar": "PATH"}
    add = parser.add_argument
    add(
        "--settings",
        default=Path("configs/model.yaml"),
        help="phase 0, the test and the card (default: %(default)s)",
        **how,
    )
    add("--phase1", default=Path("configs/model_phase1.yaml"), help="cohort and phase 1 (default: %(default)s)", **how)
    add("--phase2", default=Path("configs/model_phase2.yaml"), help="phase 2 (default: %(default)s)", **how)
    add("--run", default=Path("model_run"), help="folder for everything that is made (default: %(default)s)", **how)
    add("--name", default="simulated-v7", help="name of the model (default: %(default)s)")
    add("--anatomies", help="folder of label maps of heads (default: the average head)", **how)
    add("--test-anatomies", nargs="+", metavar="PATTERN", default=["training_seg_1[789].*", "training_seg_20.*"])
    add("--lesions", help="folder of masks of real strokes (default: computed shapes)", **how)
    add("--test-lesions", nargs="+", metavar="PATTERN", default=["*9_lesion.*"], help="files that never train")
    add("--heads", help="folder of real healthy heads, into which strokes are simulated, too", **how)
    add("--head-cases", type=int, default=96, help="examinations made from --heads (default: %(default)s)")
    add("--head-seed", type=int, default=2310, help="their seed, which also names the persons (default: %(default)s)")
    add("--test-cases", type=int, default=100, help="held-out simulated patients (default: %(default)s)")
    # Every model that is shipped is tested on a seed of its own.
    add("--test-seed", type=int, default=60051, help="their seed (default: %(default)s)")
    add("--real", help="evaluation on real patients, for the model card", **how)
    add("--init", help="bundle that replaces phase 0, or `shipped`")
    add("--card", default=Path("docs/explanation/model-card.md"), help="model card (default: %(default)s)", **how)
    add("--package", default=ROOT / "src/fvv/models", help="where the model is put", **how)
    add("--dry-run", action="store_true", help="print the commands, run none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
