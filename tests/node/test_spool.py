"""The spool: whatever step a kill comes between, nothing is lost and nothing is done twice."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fvv.node.objects import ObjectFacts
from fvv.node.spool import DONE, FAILED, RECEIVED, RUNNING, SENDING, STATES, Spool
from fvv.schemas.node import StudyRecord

MADE = "models and settings"


def opened(root: Path) -> Spool:
    spool = Spool(root)
    spool.open()
    return spool


def put(spool: Spool, name: str, association: str = "a", content: bytes = b"x") -> None:
    file = spool.incoming()
    file.write_bytes(content)
    spool.put(file, ObjectFacts("s", f"{name}.dcm", wanted=True), association)


def transferred(spool: Spool, *names: str, association: str = "a") -> None:
    spool.begin(association)
    for name in names:
        put(spool, name, association)
    spool.end(association, well=True)


def answered(spool: Spool, *, outcome: str = "answered") -> None:
    objects = tuple(sorted(file.name for file in spool.images(RUNNING, "s").iterdir()))
    spool.write_record(RUNNING, "s", StudyRecord(outcome=outcome, objects=objects, made_from=MADE))
    spool.move("s", RUNNING, SENDING)


def where(root: Path) -> dict[str, list[str]]:
    """Object names of the study in each state."""
    found = {}
    for state in STATES:
        folder = root / state / "s"
        if folder.exists():
            found[state] = sorted(file.stem for file in (folder / "s").glob("*.dcm"))
    return found


def test_a_study_goes_from_state_to_state(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    transferred(spool, "1", "2")
    assert where(tmp_path) == {RECEIVED: ["1", "2"]}
    assert spool.take("s", MADE)
    assert where(tmp_path) == {RUNNING: ["1", "2"]}
    answered(spool)
    spool.move("s", SENDING, DONE)
    assert where(tmp_path) == {DONE: ["1", "2"]}
    spool.remove(DONE, "s")
    assert where(tmp_path) == {}


def test_what_was_on_its_way_to_disk_is_no_object(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.incoming().write_bytes(b"half")
    opened(tmp_path)
    assert where(tmp_path) == {}
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.parametrize("jump_s", [-7200.0, 7200.0])
def test_a_clock_that_is_set_changes_no_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """Set forward, half a study would be complete; set back, a whole one would wait for hours."""
    spool, real = opened(tmp_path), time.time
    transferred(spool, "1")
    monkeypatch.setattr("fvv.node.spool.time.time", lambda: real() + jump_s)
    assert 0 <= spool.waiting_s("s") < 60


def test_a_study_waits_again_after_the_node_was_down(tmp_path: Path) -> None:
    """Its sender could send nothing meanwhile: half a study would be complete."""
    spool = opened(tmp_path)
    spool.begin("a")
    put(spool, "1", "a")
    os.utime(spool.images(RECEIVED, "s"), (0, 0))
    after = opened(tmp_path)
    assert 0 <= after.waiting_s("s") < 60


def test_the_same_object_twice_is_one(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    transferred(spool, "1", "1")
    assert where(tmp_path) == {RECEIVED: ["1"]}


def test_a_transfer_that_is_cut_off_is_known_until_it_is_repeated(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.begin("a")
    put(spool, "1", "a")
    assert not spool.is_cut_off("s")
    spool.end("a", well=False)
    assert spool.is_cut_off("s")
    transferred(spool, "1", "2", association="b")
    assert not spool.is_cut_off("s")


def test_a_transfer_that_a_kill_cut_off_is_known(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.begin("a")
    put(spool, "1", "a")
    after = opened(tmp_path)
    assert after.is_cut_off("s")
    after.begin("b")
    put(after, "1", "b")
    assert after.is_cut_off("s")
    after.end("b", well=True)
    assert not after.is_cut_off("s")


def test_a_release_that_is_heard_of_after_the_end_of_the_connection_counts(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.begin("a")
    put(spool, "1", "a")
    spool.end("a", well=False)
    assert spool.is_cut_off("s")
    spool.end("a", well=True)
    assert not spool.is_cut_off("s")


def test_the_last_transfer_says_whether_it_was_aborted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for name in ("a", "b"):
        spool.begin(name)
        put(spool, name, name)
        if name == "a":
            spool.end("a", well=False)
        time.sleep(0.01)
    after = opened(tmp_path)
    after.take("s", MADE)
    assert not after.was_aborted("s")


@pytest.mark.parametrize("aborted", [True, False])
def test_who_cut_a_transfer_off_is_known(tmp_path: Path, *, aborted: bool) -> None:
    spool = opened(tmp_path)
    spool.begin("a")
    put(spool, "1", "a")
    if aborted:
        spool.end("a", well=False)
    after = opened(tmp_path)
    assert after.is_cut_off("s")
    after.take("s", MADE)
    assert after.was_aborted("s") is aborted


def test_one_of_two_associations_goes_on(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for name in ("a", "b"):
        spool.begin(name)
        put(spool, name, name)
    spool.end("a", well=True)
    spool.end("b", well=False)
    assert spool.is_cut_off("s")


def test_an_association_that_goes_on_is_of_the_study_of_its_last_object(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.begin("a")
    put(spool, "1")
    assert spool.is_arriving("s")
    file = spool.incoming()
    file.write_bytes(b"x")
    spool.put(file, ObjectFacts("next", "1.dcm", wanted=True), "a")
    assert not spool.is_arriving("s")
    assert spool.is_arriving("next")
    spool.end("a", well=True)
    assert not spool.is_arriving("next")


def test_a_silent_association_that_this_end_closes_is_no_abort(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.begin("a")
    put(spool, "1")
    spool.end("a", well=False, aborted=False)
    assert spool.is_cut_off("s")
    spool.take("s", MADE)
    assert not spool.was_aborted("s")


@pytest.mark.parametrize("state", [SENDING, DONE])
def test_the_same_study_again_is_not_run_again(tmp_path: Path, state: str) -> None:
    spool = opened(tmp_path)
    transferred(spool, "1", "2")
    spool.take("s", MADE)
    answered(spool)
    if state == DONE:
        spool.move("s", SENDING, DONE)
    transferred(spool, "2")
    assert not spool.take("s", MADE)
    assert where(tmp_path) == {state: ["1", "2"]}


@pytest.mark.parametrize("outcome", ["failed", "incomplete"])
def test_a_study_that_failed_is_run_again_when_it_comes_again(tmp_path: Path, outcome: str) -> None:
    spool = opened(tmp_path)
    transferred(spool, "1")
    spool.take("s", MADE)
    answered(spool, outcome=outcome)
    spool.move("s", SENDING, FAILED)
    transferred(spool, "1")
    assert spool.take("s", MADE)
    assert where(tmp_path) == {RUNNING: ["1"]}


def test_other_models_answer_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    transferred(spool, "1")
    spool.take("s", MADE)
    answered(spool)
    transferred(spool, "1")
    assert spool.take("s", "other models")


def test_late_objects_join_the_earlier_ones_and_what_was_sent_stays_known(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    transferred(spool, "1")
    spool.take("s", MADE)
    answered(spool)
    spool.note_sent("s", "pacs", "1.2.3")
    transferred(spool, "2")
    assert spool.take("s", MADE)
    assert where(tmp_path) == {RUNNING: ["1", "2"]}
    assert spool.record(RUNNING, "s").outcome == "open"
    answered(spool)
    assert spool.is_sent("s", "pacs", "1.2.3")
    assert not spool.is_sent("s", "other", "1.2.3")


class KilledError(BaseException):
    """Stands for SIGKILL: no handler of the program runs."""


def steps(monkeypatch: pytest.MonkeyPatch, at: int) -> Callable[[], int]:
    """Kill before the `at`-th change of the disk."""
    count = 0
    for owner, name in ((Path, "rename"), (Path, "replace"), (Path, "mkdir"), (Path, "touch"), (Path, "unlink")):
        real = getattr(owner, name)

        def change(*args: object, real: Callable[..., object] = real, **about: object) -> object:
            nonlocal count
            count += 1
            if count == at:
                raise KilledError
            return real(*args, **about)

        monkeypatch.setattr(owner, name, change)
    for module, name in (("fvv.node.spool.shutil", "rmtree"), ("fvv.node.spool.os", "link")):
        owner = __import__("fvv.node.spool", fromlist=["x"])
        target = getattr(owner, module.rpartition(".")[2])
        real = getattr(target, name)

        def change_too(*args: object, real: Callable[..., object] = real, **about: object) -> object:
            nonlocal count
            count += 1
            if count == at:
                raise KilledError
            return real(*args, **about)

        monkeypatch.setattr(target, name, change_too)
    return lambda: count


def life(spool: Spool, confirmed: set[str]) -> None:
    """From whatever is there to the end, with one object that comes late."""
    for name in ("1", "2"):
        if name in confirmed:
            continue
        if name == "2" and where(spool.root).keys() <= {RECEIVED} and "1" in where(spool.root).get(RECEIVED, []):
            run(spool)
        spool.begin(f"a{name}")
        put(spool, name, f"a{name}")
        confirmed.add(name)
        spool.end(f"a{name}", well=True)
    run(spool)


def run(spool: Spool) -> None:
    if (spool.root / RECEIVED / "s" / "s").is_dir() and not (spool.root / RUNNING / "s").exists():
        spool.take("s", MADE)
    if (spool.root / RUNNING / "s").exists():
        answered(spool)
    if (spool.root / RECEIVED / "s").exists():
        run(spool)
    if (spool.root / SENDING / "s").exists():
        if not spool.is_sent("s", "pacs", "1"):
            spool.note_sent("s", "pacs", "1")
        spool.move("s", SENDING, DONE)


def test_a_kill_before_any_step_loses_no_confirmed_object(tmp_path: Path) -> None:
    at = 1
    while True:
        root = tmp_path / str(at)
        confirmed: set[str] = set()
        with pytest.MonkeyPatch.context() as patch:
            count = steps(patch, at)
            try:
                life(opened(root), confirmed)
                killed = False
            except KilledError:
                killed = True
            there = {name for names in (where(root).values() if root.exists() else ()) for name in names}
            assert confirmed <= there, f"step {at}"
        life(opened(root), confirmed)
        assert where(root) == {DONE: ["1", "2"]}, f"step {at}"
        assert (root / DONE / "s" / "sent" / "pacs" / "1").exists(), f"step {at}"
        shutil.rmtree(root)
        if not killed:
            assert count() > 30
            return
        at += 1


def test_a_study_to_which_an_object_came_meanwhile_is_not_removed_as_empty(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.images(RECEIVED, "s").mkdir(parents=True)  # A kill came before its first object.
    put(spool, "1")
    spool.remove_empty("s")
    assert [file.name for file in spool.images(RECEIVED, "s").iterdir()] == ["1.dcm"]
    spool.images(RECEIVED, "t").mkdir(parents=True)
    spool.remove_empty("t")
    assert spool.studies(RECEIVED) == ["s"]
