"""Train the model in the package again, evaluate it, and put it into the package: what `make model` runs.

    python experiments/shipped_model.py [--anatomies DIR] [--lesions DIR] [--heads DIR] [--init BUNDLE]

Each step is a command of `fvv`. The same command resumes: a step that is finished does nothing, or is skipped. After a
change of settings, name another folder with --run. --dry-run prints the commands and runs none.

With --init, the training has two phases: in the first, each fold starts from the models of the bundle (run
NAME-phase1); in the second, from the best checkpoint of the same fold of the first (run NAME).
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

from fvv.config import load_config

ROOT = Path(__file__).resolve().parents[1]
IMAGES = (".nii", ".nii.gz")


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


def steps(options: argparse.Namespace) -> Iterator[Step]:
    """All commands, in order."""
    run, settings = options.run, ("-c", str(options.settings))
    bundle, store = run / "bundle", run / "preprocessed_data"
    shares = []
    if options.anatomies:
        shares.append(shared_out("anatomies", "anatomy_files", options.anatomies, options.test_anatomies))
    if options.lesions:
        shares.append(shared_out("lesions", "lesion_files", options.lesions, options.test_lesions))
    train_on = [word for one in shares for word in one.options(one.train)]
    test_on = [word for one in shares for word in one.options(one.test)]

    cohort = run / "input_data"
    yield Step(("fvv", "simulate", *settings, *train_on, "-o", str(cohort)))
    if options.heads:
        head_data = run / "head_data"
        count = ("--seed", str(options.head_seed), "--cases", str(options.head_cases))
        in_heads = ("--set", f"simulate.heads={options.heads}", *count)
        yield Step(("fvv", "simulate", *settings, *train_on, *in_heads, "-o", str(head_data)))
        join = str(ROOT / "experiments" / "join_cohorts.py")
        yield Step(("python", join, f"sim={cohort}", f"head={head_data}", "-o", str(run / "cohort")))
        cohort = run / "cohort"
    yield Step(("fvv", "prepare", *settings, "-i", str(cohort), "-o", str(store)))

    yield from _training(options, store)
    folders = ("-i", str(run / "saved_models"), "--store", str(store), "-o", str(bundle))
    convert = ("fvv", "convert", "-c", str(options.second or options.settings), "-n", options.name, *folders)
    yield Step(convert, bundle / "bundle.json")

    models, held_out, external = ("-m", str(bundle)), run / "out_of_fold", run / "external"
    calibrate = ("fvv", "evaluate", "--calibrate", *settings, *models, "-i", str(store), "-o", str(held_out))
    yield Step(calibrate, held_out / "summary.json")
    patients = run / "new_patients"
    count = ("--seed", str(options.test_seed), "--cases", str(options.test_cases))
    yield Step(("fvv", "simulate", *settings, *test_on, *count, "-o", str(patients)))
    as_new = ("--external", str(patients), "--set", "evaluate.own_masks=true")
    yield Step(("fvv", "evaluate", *as_new, *settings, *models, "-o", str(external)), external / "summary.json")

    measured = ("--out-of-fold", str(held_out), "--external", str(external), "--cohort", str(patients))
    real = ("--real", str(options.real)) if options.real else ()
    yield Step(("fvv", "card", *settings, *models, *measured, *real, "-o", str(options.card)))
    yield Step(("fvv", "doctor", *models))


def _training(options: argparse.Namespace, store: Path) -> Iterator[Step]:
    """From random weights, or in two phases from those of a bundle."""
    folders = ("-i", str(store), "-o", str(options.run / "saved_models"))
    train = ("fvv", "train", "-c", str(options.settings))
    if not options.init:
        yield Step((*train, "--all-folds", "-n", options.name, *folders))
        return
    first = f"{options.name}-phase1"
    # Once this model is in the package, `shipped` is another one, and no start for this training.
    converted = options.run / "bundle" / "bundle.json"
    yield Step((*train, "--all-folds", "-n", first, "--init", options.init, *folders), converted)
    second = ("fvv", "train", "-c", str(options.second or options.settings))
    for fold in range(load_config(options.settings).prepare.kfolds):
        start = options.run / "saved_models" / first / f"fold_{fold}" / "best.ckpt"
        yield Step((*second, "--fold", str(fold), "-n", options.name, "--init", str(start), *folders))


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
    add("--settings", default=Path("configs/model.yaml"), help="settings of every step (default: %(default)s)", **how)
    add("--run", default=Path("model_run"), help="folder for everything that is made (default: %(default)s)", **how)
    add("--name", default="simulated-v3", help="name of the model (default: %(default)s)")
    add("--anatomies", help="folder of label maps of heads (default: the average head)", **how)
    add("--test-anatomies", nargs="+", metavar="PATTERN", default=["training_seg_1[789].*", "training_seg_20.*"])
    add("--lesions", help="folder of masks of real strokes (default: computed shapes)", **how)
    add("--test-lesions", nargs="+", metavar="PATTERN", default=["*9_lesion.*"], help="files that never train")
    add("--heads", help="folder of real healthy heads, into which strokes are simulated, too", **how)
    add("--head-cases", type=int, default=200, help="examinations made from --heads (default: %(default)s)")
    add("--head-seed", type=int, default=100100, help="their seed, which also names the persons (default: %(default)s)")
    add("--test-cases", type=int, default=60, help="held-out simulated patients (default: %(default)s)")
    # Every model that is shipped is tested on a seed of its own.
    add("--test-seed", type=int, default=60003, help="their seed (default: %(default)s)")
    add("--real", help="evaluation on real patients, for the model card", **how)
    add("--init", help="bundle to start from, or `shipped`: training in two phases")
    add("--second", help="settings of the second phase, with --init (default: those of the first)", **how)
    add("--card", default=Path("docs/explanation/model-card.md"), help="model card (default: %(default)s)", **how)
    add("--package", default=ROOT / "src/fvv/models", help="where the model is put", **how)
    add("--dry-run", action="store_true", help="print the commands, run none")
    options = parser.parse_args()
    if options.second and not options.init:
        parser.error("--second is for the second phase of a training that starts from weights: give --init, too")
    return options


if __name__ == "__main__":
    main()
