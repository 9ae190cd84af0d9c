"""The records of shards, and the moment when a run of the whole cohort takes their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fvv.errors import InputError
from fvv.io.shards import finishing, mark_gathered, read_shards, refuse_unfinished, refuse_ungathered, write_run
from fvv.schemas.run import MadeFrom, RunRecord
from fvv.system.shard import Shard

NAMES = ("a", "b", "c")


class KilledError(BaseException):
    """Stands for SIGKILL: no handler of the program runs."""


def record(shard: Shard | None) -> RunRecord:
    names = NAMES if shard is None else shard.select(NAMES)
    made_from = MadeFrom(software="fvv", settings="s")
    return RunRecord(
        verb="predict", software="fvv", options={}, made_from=made_from, cohort=NAMES, shard=shard
    ).finished({name: f"{name}/results.json" for name in names}, (), 1.0)


def shards(folder: Path, *, gathered: bool) -> None:
    for index in (1, 2, 3):
        one = record(Shard(index, 3))
        write_run(folder, one.model_copy(update={"ended": False}))
        write_run(folder, one)
    if gathered:
        mark_gathered(folder)


def kill_at(patch: pytest.MonkeyPatch, at: int) -> Callable[[], int]:
    """Kill before the `at`-th removal of a file."""
    real, count = Path.unlink, 0

    def unlink(path: Path, missing_ok: bool = False) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise KilledError
        real(path, missing_ok=missing_ok)

    patch.setattr(Path, "unlink", unlink)
    return lambda: count


def is_marked(folder: Path) -> bool:
    try:
        refuse_ungathered(folder, "predict")
    except InputError:
        return True
    return False


def can_be_gathered(folder: Path) -> bool:
    try:
        refuse_unfinished(folder, read_shards(folder))
    except InputError:
        return False
    return True


@pytest.mark.parametrize("gathered", [False, True])
def test_a_kill_at_any_moment_leaves_no_records_to_gather_over_the_tables_of_a_whole_run(
    tmp_path: Path, *, gathered: bool
) -> None:
    at = 0
    killed = True
    while killed:
        folder, at = tmp_path / f"{at}", at + 1
        shards(folder, gathered=gathered)
        assert can_be_gathered(folder)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, at)
            try:
                with finishing(folder):
                    (folder / "table").touch()
                    write_run(folder, record(None))
                killed = False
            except KilledError:
                killed = True
        if (folder / "table").exists():
            assert not can_be_gathered(folder), f"step {at}"
        assert is_marked(folder) is (killed and not gathered), f"step {at}"
        with finishing(folder):  # The same command again.
            pass
        assert (is_marked(folder), can_be_gathered(folder)) == (False, False)
    assert at > 4


def test_a_whole_run_that_fails_among_its_tables_is_not_finished(tmp_path: Path) -> None:
    shards(tmp_path, gathered=False)
    with pytest.raises(InputError, match="no disk"), finishing(tmp_path):
        raise InputError("no disk")
    assert is_marked(tmp_path)


def test_the_names_of_the_cohort_are_in_memory_once(tmp_path: Path) -> None:
    shards(tmp_path, gathered=True)
    first, *others = read_shards(tmp_path)
    assert all(one.cohort is first.cohort for one in others)
