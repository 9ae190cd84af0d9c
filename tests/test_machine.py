"""The machine around a run: what libraries send home, what it lacks, what is limited or goes away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fvv.system.parallel
from builders import write_cohort, write_onnx
from fvv.cli import main
from fvv.config import PredictConfig
from fvv.errors import FvvError, InputError, OutputExistsError, as_fvv_error
from fvv.io.lock import only_writer
from fvv.io.tables import read_table
from fvv.stages.predict import predict
from fvv.system.parallel import map_items
from parallel_work import square
from programs import script, start

CONFIG = PredictConfig(compute={"device": "cpu"})
STAY = """import threading

    def stay():
        while threading.main_thread().is_alive():
            time.sleep(0.02)
        Path("tidying").touch()
        threading.Event().wait()

    threading.Thread(target=stay).start()
    Path("working").touch()
    time.sleep(600)"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    without = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "WANDB_", "CI"))}
    variables = {**without, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def cohort(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three patients, and models for them beside."""
    write_cohort(tmp_path / "in", rng, 3)
    write_onnx(tmp_path / "models" / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    return tmp_path


def test_libraries_report_nothing_home(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", whole_volume=False)
    code = "import fvv.inference.sessions, onnxruntime as ort; "
    code += f"ort.InferenceSession({str(tmp_path / 'model.onnx')!r}, providers=['CPUExecutionProvider'])"
    run = python(code, HOME=str(tmp_path / "home"), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert run.returncode == 0, run.stderr
    # What onnxruntime would send waits in such a place, beside the number it gives the machine.
    assert not [item for item in tmp_path.rglob("*") if "Microsoft" in item.parts or item.name == "deviceid"]
    said = "import os, fvv; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['WANDB_ERROR_REPORTING'])"
    assert python(said).stdout.split() == ["1", "false"]
    assert python(said, ORT_DISABLE_TELEMETRY="0", WANDB_ERROR_REPORTING="true").stdout.split() == ["0", "true"]


def test_without_semaphores_one_item_after_the_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(fvv.system.parallel, "_pool_of_one", refuse)
    with caplog.at_level("WARNING", "fvv.system.parallel"):
        found = dict(map_items(square, [1, 2, 3], workers=2, description="test"))
    assert "no parallel processes" in caplog.text
    assert (found[1], found[3]) == (1, 9)
    assert isinstance(found[2], FvvError)


def test_a_library_that_cannot_be_loaded_is_said_in_one_line() -> None:
    error = as_fvv_error(ImportError("lib.so: failed to map segment from shared object", name="scipy.special"))
    assert "scipy" not in str(error)
    assert "a library cannot be loaded: lib.so: failed to map" in str(error)
    assert "ulimit -v" in str(error)
    run = python("from fvv.cli import main; main(['verify', '-i', '.'])", PYTHONOPTIMIZE="2")
    assert "Traceback" not in run.stderr
    assert "ulimit -n" in str(as_fvv_error(OSError(24, "Too many open files")))


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
def test_too_little_memory_to_load_libraries_is_said_before() -> None:
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20)); "
    code += "from fvv.cli import main; sys.exit(main(['verify', '-i', '.']))"
    run = python(code, OMP_NUM_THREADS="1")
    assert run.returncode == 1
    assert run.stderr.startswith("error: this process may address 300 MiB of memory, and 1024 are needed")


@pytest.mark.parametrize("words", [("predict", "-o", ""), ("predict", " "), ("verify", "-i", ""), ("decide", "")])
def test_an_empty_path_is_not_the_working_folder(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(list(words))
    assert "expected a file or folder, got nothing" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_an_output_that_is_no_folder(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "out"
    place.write_text("mine") if kind == "file" else place.symlink_to("nowhere")
    with pytest.raises(FvvError, match="cannot write: expected a folder"), only_writer(place):
        pass


def test_results_that_go_away_while_the_run_goes_on_are_failures(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, moved = cohort / "out", cohort / "moved"

    def robbed(*arguments: Any, **options: Any) -> Iterator[Any]:
        for one in map_items(*arguments, **options):
            yield one
            if not moved.exists():
                out.rename(moved)

    monkeypatch.setattr("fvv.stages.predict.map_items", robbed)
    result = predict(cohort / "in", cohort / "models", out, CONFIG)
    assert "p0" in [failure.examination_id for failure in result.failures]
    assert "went away" in result.failures[0].reason
    assert "p0" not in [row["Patient"] for row in read_table(out / "results.csv")]
    again = predict(cohort / "in", cohort / "models", out, CONFIG)
    assert not again.failures
    assert len(again.predictions) == 3


def test_results_among_the_patients_are_no_patient(cohort: Path) -> None:
    for out in (cohort / "in" / "results", cohort / "in" / "all" / "results"):
        for _ in range(2):
            result = predict(cohort / "in", cohort / "models", out, CONFIG)
            assert (len(result.predictions), result.failures) == (3, ())
        shutil.rmtree(cohort / "in" / out.relative_to(cohort / "in").parts[0])


def test_a_patient_without_images_is_never_taken_for_results(cohort: Path) -> None:
    for file in (cohort / "in" / "p1").iterdir():
        file.unlink()
    for out in (cohort / "in" / "p1" / "results", cohort / "in" / "p1"):
        (cohort / "in" / "p1" / "note.txt").write_text("images to come")
        for _ in range(2 if out.name == "results" else 1):
            result = predict(cohort / "in", cohort / "models", out, CONFIG)
            assert [failure.examination_id for failure in result.failures] == ["p1"]


def test_two_links_to_one_folder_would_have_one_result(cohort: Path) -> None:
    (cohort / "links").mkdir()
    for name in ("a", "b"):
        (cohort / "links" / name).symlink_to(cohort / "in" / "p0")
    with pytest.raises(InputError, match="would have the same results as"):
        predict(cohort / "links", cohort / "models", None, CONFIG)
    assert not (cohort / "in" / "p0" / "results.json").exists()


def test_one_stage_replaces_no_file_of_another(cohort: Path) -> None:
    predict(cohort / "in", cohort / "models", cohort / "out", CONFIG)
    before = (cohort / "out" / "failures.csv").read_bytes()
    from fvv.config import PrepareConfig  # noqa: PLC0415  (what only this test needs)
    from fvv.stages.prepare import prepare  # noqa: PLC0415

    with pytest.raises(OutputExistsError, match="written by `fvv predict`"):
        prepare(cohort / "in", cohort / "out", PrepareConfig(compute={"workers": 1}), overwrite=True)
    assert (cohort / "out" / "failures.csv").read_bytes() == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals")
def test_a_second_ctrl_c_while_python_tidies_up_gives_no_traceback(tmp_path: Path) -> None:
    process = start(script(during=STAY), tmp_path)
    for place in ("working", "tidying"):  # Then Python waits for the thread.
        while not (tmp_path / place).exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert b"Traceback" not in said
    assert process.returncode == -signal.SIGINT
