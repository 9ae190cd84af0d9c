"""Standard streams that are closed, full or of another encoding, and signals: the work is done or ends in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from programs import PATH, script, start

PATIENCE_S = 300.0
"""For what comes within seconds on an idle machine."""
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@needs_full
def test_a_full_output_is_an_error_after_the_work(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        run = start(script(), tmp_path, stdout=full)
        _, said = run.communicate()
    assert run.returncode == 1
    assert said.decode().splitlines()[-1] == "error: the standard output cannot be written: No space left on device"
    assert b"Traceback" not in said
    assert (tmp_path / "done").exists()


@needs_full
def test_a_full_stderr_stops_nothing(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        run = start(script(), tmp_path, stderr=full)
        said, _ = run.communicate()
    assert (run.returncode, said) == (0, b"all is well\n")
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("gone", ["stdout", "stderr"])
def test_a_reader_who_has_gone_stops_nothing(gone: str, tmp_path: Path) -> None:
    run = start(script(), tmp_path)
    getattr(run, gone).close()
    said = (run.stderr if gone == "stdout" else run.stdout).read()
    assert run.wait() == 0
    assert b"Traceback" not in said
    assert b"Broken" not in said
    assert (tmp_path / "done").exists()


def test_a_terminal_that_is_closed_under_a_progress_bar_stops_nothing(tmp_path: Path) -> None:
    master, slave = os.openpty()
    run = start(script(during="Path('here').touch(); time.sleep(1)"), tmp_path, stderr=slave)
    os.close(slave)
    os.close(master)
    assert (run.stdout.read(), run.wait()) == (b"all is well\n", 0)
    assert (tmp_path / "done").exists()


def test_help_into_a_pipe_that_is_closed_is_silent(tmp_path: Path) -> None:
    run = start("import sys; from fvv.cli import main; sys.exit(main(['predict', '--help']))", tmp_path)
    run.stdout.close()
    assert (run.stderr.read(), run.wait()) == (b"", 0)


def test_closed_descriptors_are_not_given_to_files(tmp_path: Path) -> None:
    during = "Path('number').write_text(str(os.open('number', os.O_CREAT | os.O_RDWR)))"
    close = {"stdin": subprocess.DEVNULL, "preexec_fn": lambda: (os.close(1), os.close(2))}
    run = start(script(during=during), tmp_path, stdout=None, stderr=None, **close)
    assert run.wait() == 0
    assert int((tmp_path / "number").read_text()) > 2


@pytest.mark.parametrize(("encoding", "said"), [("ascii", "\\u03ba \\xb1 2\n"), ("cp1252", "\\u03ba ± 2\n")])
def test_characters_that_a_terminal_lacks_are_escaped(encoding: str, said: str, tmp_path: Path) -> None:
    run = start(script("κ ± 2"), tmp_path, env={"PYTHONIOENCODING": encoding})
    out, err = run.communicate()
    assert (run.returncode, out.decode("cp1252")) == (0, said)
    assert b"Traceback" not in err


def test_names_forge_no_lines(tmp_path: Path) -> None:
    during = "logging.getLogger('fvv.test').warning('patient %s', 'p\\nerror: all is lost\\x1b[2K')"
    run = start(script("2 patients\nmodels: a\x1b[2Kb\r\u2028c", during), tmp_path)
    out, err = run.communicate()
    assert out.decode() == "2 patients\nmodels: a\\x1b[2Kb\\r\\u2028c\n"
    assert err.decode().splitlines()[-1].endswith("patient p\\nerror: all is lost\\x1b[2K")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_end_the_run_in_one_line(name: str, tmp_path: Path) -> None:
    run = start(script(during="Path('here').touch(); time.sleep(60)"), tmp_path)
    _wait_for(tmp_path / "here")
    run.send_signal(signal.Signals[name])
    _, said = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 128 + signal.Signals[name]
    assert said.decode().splitlines()[-1] == f"stopped by {name}: run the same command again to resume"
    assert not (tmp_path / "done").exists()


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As `nohup` has it."""
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    run = start(script(during="Path('here').touch(); time.sleep(1)"), tmp_path, **ignore)
    _wait_for(tmp_path / "here")
    run.send_signal(signal.SIGHUP)
    assert run.wait(timeout=PATIENCE_S) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_endless_computation_of_a_library_ends_too(name: str, tmp_path: Path) -> None:
    endless = "fvv.system.ending.GRACE_S = 0.5; Path('here').touch(); import hashlib;"
    endless += " hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    run = start(script(during=endless), tmp_path, **heard)
    try:
        _wait_for(tmp_path / "here")
        time.sleep(0.3)
        run.send_signal(signal.Signals[name])
        _, said = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
    assert run.returncode == 128 + signal.Signals[name]
    assert said.decode().splitlines()[-1].startswith("stopped")


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "fvv", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PATH},
        capture_output=True,
        check=True,
    )
    assert run.stdout.startswith(b"fvv ")


def _wait_for(file: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file.name} never came")
