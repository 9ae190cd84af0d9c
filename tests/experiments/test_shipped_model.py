"""`make model`: every step is a command that fvv has, what tests never trains, and a finished step is not repeated."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from fvv.cli import main
from fvv.cli.parser import parse
from fvv.config import load_config
from fvv.io.bundle import ModelBundle
from fvv.training.rebuild import trained_resolution
from store_builders import TINY, write_store

PHASE_0 = ["simulate", "prepare", "train", "convert"]
JOINED = [*["simulate"] * 6, "join_cohorts.py", "prepare"]
TESTED = ["simulate", "evaluate", "simulate", "evaluate", "card", "doctor"]
VERBS = [*PHASE_0, *JOINED, "train", "convert", "train", "convert", *TESTED]


@pytest.fixture(scope="module")
def recipe(experiment: Callable[[str], ModuleType]) -> ModuleType:
    return experiment("shipped_model")


@pytest.fixture
def commands(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[list[str]]]:
    """The commands that the recipe prints with some options."""

    def printed(*options: str) -> list[list[str]]:
        words = ["shipped_model.py", "--run", str(tmp_path / "run"), "--dry-run", *options]
        monkeypatch.setattr(sys, "argv", words)
        recipe.main()
        return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]

    return printed


def folder(place: Path, names: list[str]) -> str:
    place.mkdir()
    for name in names:
        (place / name).touch()
    return str(place)


def masks(place: Path, names: list[str], cells: list[tuple[int, int, int]]) -> str:
    """Masks of one voxel of 10 mm at these MNI cells, one after the other; and a file that is none."""
    place.mkdir()
    (place / "._1000_lesion.nii.gz").touch()
    for number, name in enumerate(names):
        mask = np.zeros((18, 22, 18), np.uint8)
        x, y, z = cells[number % len(cells)]
        mask[x + 9, y + 12, z + 7] = 1
        affine = np.array([[10.0, 0, 0, -90], [0, 10, 0, -120], [0, 0, 10, -70], [0, 0, 0, 1]])
        nib.save(nib.Nifti1Image(mask, affine), place / name)
    return str(place)


def of_fvv(steps: list[list[str]], *verbs: str) -> list[list[str]]:
    """The commands of fvv, or those of some verbs."""
    return [words for words in steps if words[0] == "fvv" and words[1] in (verbs or VERBS)]


def files(command: list[str], key: str) -> set[str]:
    """The names that a command gives to the setting of a list of files."""
    (value,) = (word.partition("=")[2] for word in command if word.startswith(f"simulate.{key}="))
    return set(json.loads(value))


def test_each_step_is_a_command_that_fvv_accepts(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    steps = commands()
    assert [Path(words[1]).name for words in steps] == VERBS
    for words in of_fvv([*steps, *commands("--init", "shipped", "--real", "real", "--heads", "healthy")]):
        parse(words[1:])
    assert not (tmp_path / "run").exists()


def test_each_step_takes_what_an_earlier_one_made(commands: Callable[..., list[list[str]]]) -> None:
    made = {Path("real_results")}
    names = ("models", "store", "external", "cohort", "real", "train.init")
    for words in commands("--real", "real_results"):
        if words[0] == "python":
            assert {Path(word.partition("=")[2]) for word in words[2:-2]} <= made
            made.add(Path(words[-1]))
            continue
        step = parse(words[1:])
        asked = {Path(found) for name in names if (found := getattr(step, name, None))}
        if getattr(step, "external", None) is None and step.verb != "simulate":
            asked |= {found for found in (getattr(step, "input", None),) if found}
        assert asked <= made, step.verb
        made.add(getattr(step, "output", None))


def test_each_cohort_has_persons_of_its_own(commands: Callable[..., list[list[str]]]) -> None:
    """A person that an earlier phase trained on could neither select nor test in a later one."""
    seeds = []
    for words in of_fvv(commands("--heads", "healthy"), "simulate"):
        step = parse(words[1:])
        seeds.append(vars(step).get("simulate.seed", load_config(Path(step.config)).simulate.seed))
    assert len(set(seeds)) == len(seeds) == 10


def test_the_test_patients_do_not_calibrate(commands: Callable[..., list[list[str]]]) -> None:
    calibration, test = (parse(words[1:]) for words in of_fvv(commands(), "evaluate"))
    assert getattr(calibration, "evaluate.calibrate")
    assert "evaluate.calibrate" not in vars(test)
    assert calibration.external != test.external
    config = load_config(Path(test.config))
    assert not config.evaluate.calibrate
    assert "never on a patient" in config.convert.notice


def test_files_that_test_never_train(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    heads = [f"training_seg_{number:02d}.nii.gz" for number in range(1, 21)]
    names = [f"{number}_lesion.nii.gz" for number in range(1000, 1030)]
    # Cerebellum, brainstem, temporal lobe, frontal lobe.
    lesions = masks(tmp_path / "l", names, [(2, -6, -3), (0, -3, -3), (4, -2, -2), (2, 3, 2)])
    anatomies = folder(tmp_path / "a", heads)
    everything = commands("--anatomies", anatomies, "--lesions", lesions, "--heads", "healthy")
    simulated = of_fvv(everything, "simulate")
    first, train, strokes, computed, hyperacute, faint, posterior, small, real_heads, calibration, test = simulated
    assert not any("_files=" in word for word in first)
    assert not any("anatomy_files=" in word for word in real_heads)
    assert not any("lesion_files=" in word for word in computed)
    assert files(test, "anatomy_files") == set(heads[16:])
    for words in (train, strokes, computed, hyperacute, faint, posterior, small, calibration):
        assert files(words, "anatomy_files") == set(heads[:16])
    assert files(test, "lesion_files") == {"1009_lesion.nii.gz", "1019_lesion.nii.gz", "1029_lesion.nii.gz"}
    trained = set(names) - files(test, "lesion_files")
    for words in (train, strokes, hyperacute, faint, small, real_heads, calibration):
        assert files(words, "lesion_files") == trained
    assert files(posterior, "lesion_files") == {name for name in trained if int(name[:4]) % 4 in (0, 1)}
    settings = load_config(overrides=dict(parse(train[1:]).set))
    assert settings.simulate.anatomies == Path(anatomies)


def test_without_masks_of_a_kind_its_part_does_without(
    commands: Callable[..., list[list[str]]], tmp_path: Path
) -> None:
    names = [f"{number}_lesion.nii.gz" for number in range(1000, 1010)]
    frontal = masks(tmp_path / "l", names, [(2, 3, 2)])
    simulated = of_fvv(commands("--lesions", frontal), "simulate")
    posterior = next(words for words in simulated if "simulate.posterior_fossa_share=1" in words)
    assert not any("lesion" in word for word in posterior if word.startswith("simulate."))
    assert any("simulate.lesion_mask_share=1" in words for words in simulated)
    for name in names:
        mask = nib.load(Path(frontal) / name)
        nib.save(nib.Nifti1Image(np.ones(mask.shape, np.uint8), mask.affine), Path(frontal) / name)
    simulated = of_fvv(commands("--lesions", frontal), "simulate")
    assert not any("simulate.lesion_mask_share=1" in words for words in simulated)


@pytest.mark.parametrize("kept", [100, 0])
def test_a_mask_that_cannot_be_read_is_named(
    commands: Callable[..., list[list[str]]], tmp_path: Path, kept: int
) -> None:
    frontal = masks(tmp_path / "l", [f"{number}_lesion.nii.gz" for number in range(1000, 1010)], [(2, 3, 2)])
    damaged = Path(frontal) / "1001_lesion.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:kept])
    with pytest.raises(SystemExit, match="1001_lesion"):
        commands("--lesions", frontal)


def test_the_test_patients_have_the_scanner_of_the_training(commands: Callable[..., list[list[str]]]) -> None:
    *_, train, _, _, test = (parse(words[1:]) for words in of_fvv(commands(), "simulate"))
    trained, tested = (load_config(Path(step.config), dict(step.set)).simulate for step in (train, test))
    assert (trained.near_air, trained.receive_coil) == (tested.near_air, tested.receive_coil)


def test_without_files_to_test_on_nothing_starts(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2 files to train on and 0 to test on"):
        commands("--lesions", folder(tmp_path / "l", ["1000_lesion.nii.gz", "1001_lesion.nii.gz", "README.md"]))


def test_real_heads_are_a_cohort_of_their_own_that_is_joined(commands: Callable[..., list[list[str]]]) -> None:
    steps = commands("--heads", "healthy", "--head-cases", "7")
    (heads,) = (words for words in steps if "simulate.heads=healthy" in words)
    assert heads[heads.index("--cases") + 1] == "7"
    join, prepare = next((a, b) for a, b in itertools.pairwise(steps) if a[0] == "python")
    assert f"head={heads[-1]}" in join
    assert join[-1] == prepare[prepare.index("-i") + 1]


def test_a_bundle_replaces_phase_0(commands: Callable[..., list[list[str]]]) -> None:
    first, _, second, _ = of_fvv(commands("--init", "parent", "--name", "new"), "train", "convert")
    assert [first[first.index(flag) + 1] for flag in ("-n", "--init")] == ["new-phase1", "parent"]
    assert [Path(second[second.index(flag) + 1]).name for flag in ("-n", "--init")] == ["new", "phase1_bundle"]


def test_phase_2_goes_on_fold_by_fold_at_full_resolution(
    commands: Callable[..., list[list[str]]], tmp_path: Path
) -> None:
    """Trained and converted on a tiny cohort: one run of all folds, each from the model of its own fold in phase 1."""
    run, options = tmp_path / "run", ["--init", "parent", "--name", "new"]
    write_store(run / "preprocessed_data")
    for option, resolution in (("settings", "full"), ("phase1", "half"), ("phase2", "full")):
        changes = {"epochs": 1, "slices_per_epoch": 4, "slab_slices": 2, "norm_slabs": 1, "figures_every_epochs": 99}
        network = {**TINY.network.model_dump(mode="json"), "resolution": resolution}
        train = {**TINY.model_dump(mode="json", exclude_defaults=True), **changes, "network": network}
        settings = {"prepare": {"kfolds": 2}, "train": train, "convert": {"check_patients": 1}}
        (tmp_path / f"{option}.yaml").write_text(json.dumps(settings), encoding="utf-8")
        options += [f"--{option}", str(tmp_path / f"{option}.yaml")]
    for words in of_fvv(commands(*options), "train", "convert"):
        # Phase 1 from random weights: it takes no longer than it has to.
        if "parent" in words:
            words[words.index("parent")] = ""
        assert main(words[1:]) == 0, shlex.join(words)
    before, after = (ModelBundle.open(run / name).manifest for name in ("phase1_bundle", "bundle"))
    assert (before.run_name, after.run_name) == ("new-phase1", "new")
    assert len({model.run_id for model in after.models}) == 1
    for old, new in zip(before.models, after.models, strict=True):
        assert new.parent is not None
        assert (new.parent.sha256, new.fold, new.trained_on) == (old.sha256, old.fold, old.trained_on)
        assert trained_resolution(run / "phase1_bundle" / old.file) == "half"
        assert trained_resolution(run / "bundle" / new.file) == "full"


def test_a_step_that_is_finished_is_skipped_and_one_that_fails_ends_the_run(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made").touch()
    ran = tmp_path / "ran"
    code = f"import pathlib, sys; pathlib.Path({str(ran)!r}).touch(); sys.exit(3)"
    steps = [recipe.Step(("python", "-c", "no python"), tmp_path / "made"), recipe.Step(("python", "-c", code))]
    monkeypatch.setattr(recipe, "steps", lambda _: steps)
    monkeypatch.setattr(sys, "argv", ["shipped_model.py", "--package", str(tmp_path / "package")])
    with pytest.raises(SystemExit) as end:
        recipe.main()
    assert end.value.code == 3
    assert ran.exists()
    assert capsys.readouterr().out.startswith("# done: python -c")
    assert not (tmp_path / "package").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 3), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_leaves_the_end_to_the_command(
    recipe: ModuleType, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ctrl-C reaches a command from the terminal, and it may take a while to end; TERM is passed on."""
    started, over = tmp_path / "started", tmp_path / "over"
    words = """
import sys, time
from pathlib import Path
Path(sys.argv[1]).touch()
while not Path(sys.argv[2]).exists():
    time.sleep(0.01)
sys.exit(3)
"""

    def send() -> None:
        while not started.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)
        if number is signal.SIGINT:
            over.touch()

    threading.Thread(target=send, daemon=True).start()
    assert recipe._run([sys.executable, "-c", words, str(started), str(over)]) == code


def test_after_conversion_a_phase_is_over(commands: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    """`shipped` is then the model that this run has put into the package."""
    bundle = tmp_path / "run" / "phase1_bundle" / "bundle.json"
    bundle.parent.mkdir(parents=True)
    bundle.touch()
    first, second = (words for words in commands("--init", "shipped") if "train" in words)
    assert first[:2] == ["#", "done:"]
    assert second[0] == "fvv"


def test_one_model_is_in_the_package(recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    for name in ("bundle/bundle.json", "bundle/.fvv.lock", "package/old/bundle.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    recipe.ship(tmp_path / "bundle", tmp_path / "package", "new")
    assert [
        path.relative_to(tmp_path / "package").as_posix() for path in sorted((tmp_path / "package").rglob("*"))
    ] == [
        "new",
        "new/bundle.json",
    ]
