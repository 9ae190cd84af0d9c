"""One writer in a folder: also on disks without locks, in subfolders, and without litter."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from fvv.errors import FvvError
from fvv.io.atomic import atomic_write
from fvv.io.lock import LOCK, SOFT_LOCK, only_writer

HOLD = "import sys; from pathlib import Path; from fvv.io.lock import only_writer\n"


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A disk whose system says that it cannot lock files."""

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, request.param), "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)


every_refusal = pytest.mark.parametrize("no_locks", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"], indirect=True)


def names(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()}


def test_nothing_stays_behind(tmp_path: Path) -> None:
    with only_writer(tmp_path / "out"):
        assert names(tmp_path / "out") == {LOCK}
    assert names(tmp_path / "out") == set()
    with only_writer(tmp_path / "bundle", replaced=True):
        assert names(tmp_path) == {"out", f".bundle{LOCK}"}
    assert names(tmp_path) == {"out"}


def test_a_lock_that_was_removed_while_somebody_waited_is_made_again(tmp_path: Path) -> None:
    for _ in range(3):
        with only_writer(tmp_path), pytest.raises(FvvError, match="another fvv process"), only_writer(tmp_path):
            pass


def test_a_subfolder_where_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    remains = tmp_path / "anna" / ".partial-0011aabb-predictions.nii.gz"
    code = f"{HOLD}with only_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "anna")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        remains.write_text("under way")
        with only_writer(tmp_path):
            assert remains.exists()
    finally:
        holder.kill()
        holder.wait()
    assert (tmp_path / "anna" / LOCK).exists()  # Killed, it could not tidy.
    with only_writer(tmp_path):
        assert names(tmp_path / "anna") == set()


@every_refusal
def test_a_disk_without_locks_keeps_two_writers_apart(tmp_path: Path, no_locks: None) -> None:
    with only_writer(tmp_path):
        assert names(tmp_path) == {SOFT_LOCK}
        with pytest.raises(FvvError, match=r"another fvv process is writing here.*wait until process"):
            only_writer(tmp_path).__enter__()
    assert names(tmp_path) == set()
    with only_writer(tmp_path):  # free again
        pass


@pytest.mark.parametrize("no_locks", ["ENOLCK"], indirect=True)
def test_what_a_killed_process_left_is_no_lock(tmp_path: Path, no_locks: None) -> None:
    code = (
        "import errno, fcntl, os, signal\ndef refuse(*_): raise OSError(errno.ENOLCK, 'none')\nfcntl.flock = refuse\n"
    )
    code += f"{HOLD}with only_writer(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert names(tmp_path) == {SOFT_LOCK}
    with only_writer(tmp_path):
        pass
    assert names(tmp_path) == set()


@pytest.mark.parametrize("no_locks", ["ENOLCK"], indirect=True)
def test_a_process_of_another_machine_is_named(tmp_path: Path, no_locks: None) -> None:
    (tmp_path / SOFT_LOCK).write_text("123\nanother-machine\n")
    with pytest.raises(FvvError) as caught:
        only_writer(tmp_path).__enter__()
    assert "process 123 on another-machine ends; if it runs no more, remove" in str(caught.value)
    assert str(tmp_path / SOFT_LOCK) in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FvvError, match="cannot write") as caught:
        only_writer(tmp_path / "file" / "below").__enter__()
    assert str(tmp_path / "file") in str(caught.value)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(FvvError, match="another fvv process"), only_writer(tmp_path):
        pass
    with only_writer(tmp_path):  # free again
        pass


def test_a_second_writer_is_refused_and_the_first_clears_up(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / ".partial-0011aabb-p.zarr").mkdir()
    with only_writer(tmp_path):
        assert not list((tmp_path / "cases").iterdir())
        with pytest.raises(FvvError, match="another fvv process"), only_writer(tmp_path):
            pass
    with only_writer(tmp_path / "bundle", replaced=True), atomic_write(tmp_path / "bundle") as folder:
        folder.mkdir()
        with pytest.raises(FvvError, match="another"), only_writer(tmp_path / "bundle", replaced=True):
            pass
    assert (tmp_path / "bundle").is_dir()
