"""`prepare`: what it makes of a cohort, and of a store that is there: nothing is lost without request."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from builders import save, write_cohort, write_patient
from fvv.cli import main
from fvv.config import PROFILES, PrepareConfig, PreprocessConfig
from fvv.data import FoldPlan, Role
from fvv.errors import FvvError, InputError, OutputExistsError, StoreError
from fvv.io.folds import read_folds
from fvv.io.lock import only_writer
from fvv.io.shards import shard_place
from fvv.io.store import CaseStore
from fvv.io.tables import read_table
from fvv.stages.prepare import gather_store, prepare
from fvv.stages.verify import verify
from fvv.system.shard import Shard

CONFIG = PrepareConfig(kfolds=2, compute={"workers": 1})


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean")
    write_cohort(root / "input_data", np.random.default_rng(0), n=6)
    prepare(root / "input_data", root / "store", CONFIG)
    return root


@pytest.fixture
def cohort(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean / "input_data", tmp_path / "input_data"))


@pytest.fixture
def five(cohort: Path) -> Path:
    """One more than two folds need: one may fail."""
    shutil.rmtree(cohort / "p5")
    return cohort


@pytest.fixture
def few(five: Path) -> Path:
    """As many as two folds need, p0 to p3."""
    shutil.rmtree(five / "p4")
    return five


@pytest.fixture
def store(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean / "store", tmp_path / "store"))


def content(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != ".fvv.lock")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def sides(plan: FoldPlan) -> dict[str, tuple[Role, ...]]:
    return {row.examination_id: row.roles for row in plan.rows}


def swap_images(patient: Path) -> None:
    """b0 and b1000 under each other's name."""
    (patient / "b0.nii.gz").rename(patient / "x.nii.gz")
    (patient / "b1000.nii.gz").rename(patient / "b0.nii.gz")
    (patient / "x.nii.gz").rename(patient / "b1000.nii.gz")


def test_a_cohort_becomes_a_store_and_a_second_run_does_nothing(few: Path, tmp_path: Path) -> None:
    first = prepare(few, tmp_path / "store", CONFIG)
    assert (first.prepared, first.unchanged, first.failures) == (4, 0, ())
    before = content(tmp_path / "store")
    second = prepare(few, tmp_path / "store", CONFIG)
    assert (second.prepared, second.unchanged) == (0, 4)
    assert content(tmp_path / "store") == before
    assert "4 unchanged" in second.summary()


def test_one_and_two_processes_write_the_same_bytes(cohort: Path, store: Path, tmp_path: Path) -> None:
    prepare(cohort, tmp_path / "two", CONFIG.model_copy(update={"workers": 2}))
    assert content(store) == content(tmp_path / "two")


def test_only_what_changed_is_done_again(cohort: Path, store: Path, rng: np.random.Generator) -> None:
    write_patient(cohort / "p2", rng)
    write_patient(cohort / "p9", rng)
    result = prepare(cohort, store, CONFIG)
    assert (result.prepared, result.unchanged) == (2, 5)
    assert CaseStore.open(store).participants == ("p0", "p1", "p2", "p3", "p4", "p5", "p9")


def test_bad_patients_are_recorded_and_the_others_go_on(five: Path, tmp_path: Path) -> None:
    (five / "p0" / "b0.nii.gz").write_bytes(b"not an image")
    empty = np.zeros((64, 64, 10), dtype=bool)
    write_patient(five / "p8", np.random.default_rng(8))
    save(five / "p8" / "mask.nii.gz", empty)
    result = prepare(five, tmp_path / "store", CONFIG)
    assert result.prepared == 4
    reasons = {row["examination_id"]: row["reason"] for row in read_table(tmp_path / "store" / "failures.csv")}
    assert set(reasons) == {"p0", "p8"}
    assert "b0.nii.gz" in reasons["p0"]
    assert "brain mask is empty" in reasons["p8"]
    assert {failure.examination_id for failure in result.failures} == {"p0", "p8"}


def test_an_implausible_brain_is_no_brain(cohort: Path, store: Path) -> None:
    tiny = np.zeros((64, 64, 10), dtype=bool)
    tiny[30:36, 30:36, 4:6] = True
    write_patient(cohort / "p8", np.random.default_rng(8))
    save(cohort / "p8" / "mask.nii.gz", tiny)
    (failure,) = prepare(cohort, store, CONFIG).failures
    assert "holds 12 mL, expected 400 to 2500 mL" in failure.reason


def test_one_image_under_two_persons_is_left_out(cohort: Path, store: Path) -> None:
    shutil.copytree(cohort / "p1", cohort / "p7")
    (failure,) = prepare(cohort, store, CONFIG).failures
    assert failure.examination_id == "p7"
    assert "same images as p1" in failure.reason


def test_options_of_the_mask_reach_the_patients(five: Path, tmp_path: Path) -> None:
    (five / "p0" / "mask.nii.gz").unlink()
    given = CONFIG.model_copy(update={"preprocess": PreprocessConfig(mask_method="given")})
    (failure,) = prepare(five, tmp_path / "store", given).failures
    assert failure.examination_id == "p0"
    assert CaseStore.open(tmp_path / "store").profile.mask_method == "given"


def test_no_data_and_only_bad_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        prepare(tmp_path / "none", tmp_path / "store", CONFIG)
    (tmp_path / "in" / "p").mkdir(parents=True)
    with pytest.raises(StoreError, match="1 persons cannot make 2 folds"):
        prepare(tmp_path / "in", tmp_path / "store", CONFIG)
    for name in ("q", "r", "s"):
        (tmp_path / "in" / name).mkdir()
    with pytest.raises(StoreError, match=r"none of the 4 patients could be prepared\. 4: b1000.nii.gz: missing"):
        prepare(tmp_path / "in", tmp_path / "store", CONFIG)
    with pytest.raises(StoreError, match="no such file"):
        prepare(tmp_path / "in", tmp_path / "store", CONFIG, folds=tmp_path / "none.tsv")


def test_too_few_are_left_and_the_message_says_why(cohort: Path, tmp_path: Path) -> None:
    for n in range(4):
        (cohort / f"p{n}" / "b0.nii.gz").unlink()
    with pytest.raises(StoreError) as error:
        prepare(cohort, tmp_path / "store", CONFIG)
    said = str(error.value)
    assert "2 persons cannot make 2 folds; 4 examinations were left out. " in said
    assert "4: b0.nii.gz: missing [p0, p1, p2 and 1 more]" in said
    assert said.endswith("every reason stands in failures.csv)")
    assert len(read_table(tmp_path / "store" / "failures.csv")) == 4


def test_the_table_joins_nothing_from_a_patient_that_is_missing(few: Path, tmp_path: Path) -> None:
    rows = "".join(f"p{n}\tperson{n}\n" for n in (0, 1, 2, 3, 7))
    (few / "participants.tsv").write_text("participant_id\tpatient_id\n" + rows)
    (failure,) = prepare(few, tmp_path / "new", CONFIG).failures
    assert failure.examination_id == "p7"
    assert read_table(tmp_path / "new" / "failures.csv")[0]["reason"].endswith(
        "is the disk mounted, and the name right?)"
    )


class TestNothingShrinks:
    @pytest.mark.parametrize("how", ["folder gone", "broken link", "file gone", "link to a file broken"])
    def test_what_cannot_be_reached_is_a_failure_and_stays(self, cohort: Path, store: Path, how: str) -> None:
        before = content(store)
        if how.startswith("folder") or how == "broken link":
            shutil.rmtree(cohort / "p1")
        if how == "broken link":
            (cohort / "p1").symlink_to("unmounted/p1")
        if "file" in how:
            (cohort / "p1" / "b1000.nii.gz").unlink()
        if how.startswith("link"):
            (cohort / "p1" / "b1000.nii.gz").symlink_to("nowhere")
        result = prepare(cohort, store, CONFIG)
        assert [failure.examination_id for failure in result.failures] == ["p1"]
        after = content(store)
        for name in ("failures.csv",):
            assert before.pop(name) != after.pop(name)
        assert before == after

    def test_it_leaves_on_request(self, cohort: Path, store: Path) -> None:
        shutil.rmtree(cohort / "p1")
        swap_images(cohort / "p3")
        (cohort / "p2" / "b1000.nii.gz").unlink()
        result = prepare(cohort, store, CONFIG, prune=True)
        assert [failure.examination_id for failure in result.failures] == ["p2", "p3"]
        assert CaseStore.open(store).participants == ("p0", "p2", "p4", "p5")  # p2 cannot be judged: it stays
        assert set(sides(result.plan)) == {"p0", "p2", "p4", "p5"}

    def test_another_cohort_is_refused_with_a_count_and_names(self, store: Path, tmp_path: Path) -> None:
        write_cohort(tmp_path / "x", np.random.default_rng(1), n=4)
        for number in range(4):
            (tmp_path / "x" / f"p{number}").rename(tmp_path / "x" / f"other{number}")
        before = content(store)
        with pytest.raises(StoreError, match="holds 6 examinations, none of which is in the data set: p0, p1"):
            prepare(tmp_path / "x", store, CONFIG)
        assert content(store) == before
        prepare(tmp_path / "x", store, CONFIG, prune=True)
        assert CaseStore.open(store).participants == ("other0", "other1", "other2", "other3")

    def test_with_no_input_in_reach_the_store_is_as_it_was(self, cohort: Path, store: Path) -> None:
        before = content(store)
        for number in range(6):
            shutil.rmtree(cohort / f"p{number}")
            (cohort / f"p{number}").symlink_to("unmounted")
        other = CONFIG.model_copy(update={"profile": "robust-v2"})
        for config in (CONFIG, other):
            with pytest.raises(StoreError, match="none of the 6 patients could be prepared"):
                prepare(cohort, store, config)
            assert content(store) == before


class TestSplit:
    def test_an_edited_split_is_extended_and_the_edited_file_kept(self, cohort: Path, store: Path) -> None:
        file = store / "folds.tsv"
        rows = [line.split("\t") for line in file.read_text().splitlines()]
        edited = [[*row[:2], *row[:1:-1], "mine"] for row in rows[1:] if row[0] != "p2"]  # folds exchanged, p2 out
        text = "\n".join("\t".join(row) for row in [[*rows[0], "note"], *edited]) + "\n"
        file.write_text(text)
        prepare(cohort, store, CONFIG)
        assert file.read_text() == text
        write_patient(cohort / "p6", np.random.default_rng(6))
        result = prepare(cohort, store, CONFIG)
        plan = sides(result.plan)
        assert {row[0]: list(row[2:4]) for row in edited}.items() <= {
            name: [role.value for role in roles] for name, roles in plan.items()
        }.items()
        assert "p6" in plan
        assert "p2" not in plan
        assert "in no fold, as the split was edited or given: p2" in result.summary()
        (copy,) = store.glob("folds_before_*.tsv")
        assert copy.read_text() == text

    def test_a_patient_that_fails_leaves_the_split_and_returns_to_its_side(self, cohort: Path, store: Path) -> None:
        before = sides(read_folds(store / "folds.tsv"))
        swap_images(cohort / "p4")
        assert "p4" not in sides(prepare(cohort, store, CONFIG).plan)
        write_patient(cohort / "p6", np.random.default_rng(6))
        prepare(cohort, store, CONFIG)
        swap_images(cohort / "p4")
        assert sides(prepare(cohort, store, CONFIG).plan).items() >= before.items()

    def test_two_sides_of_one_person_are_refused_before_any_work(self, cohort: Path, store: Path) -> None:
        plan = read_folds(store / "folds.tsv")
        one, two = (plan.participants(fold, Role.TEST)[0] for fold in range(2))
        rows = "".join(f"p{n}\t{'same' if f'p{n}' in {one, two} else f'p{n}'}\n" for n in range(6))
        (cohort / "participants.tsv").write_text("participant_id\tpatient_id\n" + rows)
        before = content(store)
        with pytest.raises(StoreError, match=r"are one person but have different roles"):
            prepare(cohort, store, CONFIG)
        assert content(store) == before

    def test_a_given_split_is_obeyed(self, few: Path, tmp_path: Path) -> None:
        given = tmp_path / "mine.tsv"
        given.write_text(
            "participant_id\tpatient_id\tfold_0\tfold_1\n"
            "p0\tp0\ttrain\ttest\np1\tp1\ttest\ttrain\np2\tp2\tvalid\tvalid\ngone\tgone\ttrain\ttrain\n"
        )
        result = prepare(few, tmp_path / "store", CONFIG, folds=given)
        assert [row.examination_id for row in result.plan.rows] == ["p0", "p1", "p2"]
        given.write_text(given.read_text().replace("p2\tp2", "p2\tother"))
        with pytest.raises(StoreError, match="p2 is other in the given split and p2 in the cohort"):
            prepare(few, tmp_path / "store", CONFIG, folds=given)


class TestProfiles:
    def test_a_killed_change_of_profile_is_seen_and_can_go_on(self, cohort: Path, store: Path) -> None:
        half = CaseStore.create(store, PROFILES["robust-v2"])  # As a run does first; then it is killed.
        with pytest.raises(
            StoreError, match=r"prepared under another profile than the store's, robust-v2.*run it again"
        ):
            half.record("p0")
        with pytest.raises(StoreError, match="another profile"):
            half.read_slab("p0", 0, 2)
        result = prepare(cohort, store, CONFIG.model_copy(update={"profile": "robust-v2"}))
        assert (result.prepared, result.unchanged) == (6, 0)
        assert CaseStore.open(store).read("p0").examination_id == "p0"

    def test_identity_changes_with_all_that_training_takes(self, cohort: Path, store: Path) -> None:
        opened = CaseStore.open(store)
        first = opened.identity()
        prepare(cohort, store, CONFIG)
        assert opened.identity() == first
        write_patient(cohort / "p3", np.random.default_rng(9))
        prepare(cohort, store, CONFIG)
        second = opened.identity()
        prepare(cohort, store, CONFIG.model_copy(update={"seed": 5}))
        third = opened.identity()
        prepare(cohort, store, CONFIG.model_copy(update={"seed": 5, "profile": "robust-v2"}))
        assert len({first, second, third, opened.identity()}) == 4
        shutil.rmtree(store / "cases" / "p0.zarr")
        with pytest.raises(StoreError, match="not prepared: p0"):
            opened.identity()


class TestPlace:
    @pytest.mark.parametrize("name", ["notes.txt", "folds.tsv", "cases", "store.json"])
    def test_a_folder_of_others_is_refused_untouched(self, cohort: Path, tmp_path: Path, name: str) -> None:
        place = tmp_path / "place"
        place.mkdir()
        (place / name).write_text("mine")
        with pytest.raises(OutputExistsError, match=f"did not write, such as {name}"):
            prepare(cohort, place, CONFIG, overwrite=True)
        assert [(item.name, item.read_text()) for item in place.iterdir()] == [(name, "mine")]

    def test_the_store_does_not_lie_among_the_patients(self, cohort: Path) -> None:
        for place in (cohort, cohort / "store"):
            with pytest.raises(OutputExistsError, match="as a patient"):
                prepare(cohort, place, CONFIG)
        assert len(list(cohort.iterdir())) == 6


DAMAGE = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema_version": []}']


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGE)
    @pytest.mark.parametrize("name", ["store.json", "failures.csv", "split.json"])
    def test_what_can_be_made_again_is(self, cohort: Path, store: Path, name: str, damage: bytes) -> None:
        before = content(store)
        (store / name).write_bytes(damage)
        if name == "store.json":
            with pytest.raises(StoreError):
                CaseStore.open(store)
        prepare(cohort, store, CONFIG)
        after = content(store)
        after.pop("split.json"), before.pop("split.json")  # It now says that the split may have been edited.
        assert after == before

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"attributes": 3}', b'{"zarr_format": 3}'])
    def test_a_damaged_patient_is_prepared_again(self, cohort: Path, store: Path, damage: bytes) -> None:
        (store / "cases" / "p1.zarr" / "zarr.json").write_bytes(damage)
        with pytest.raises(StoreError, match="damaged"):
            CaseStore.open(store).record("p1")
        result = prepare(cohort, store, CONFIG)
        assert (result.prepared, result.unchanged, result.failures) == (1, 5, ())

    @pytest.mark.parametrize("name", ["images", "labels"])
    def test_a_patient_whose_voxels_are_damaged_is_prepared_again(self, cohort: Path, store: Path, name: str) -> None:
        before = CaseStore.open(store).read("p0")
        (chunk,) = (path for path in (store / "cases" / "p0.zarr" / name / "c").rglob("*") if path.is_file())
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(bytes(data))
        result = prepare(cohort, store, CONFIG)
        assert (result.prepared, result.unchanged, result.failures) == (1, 5, ())
        np.testing.assert_array_equal(CaseStore.open(store).read("p0").b1000, before.b1000)


class TestQuality:
    def test_what_would_be_no_answer_for_a_new_patient_is_not_learned_from(self, five: Path, tmp_path: Path) -> None:
        swap_images(five / "p2")
        (failure,) = prepare(five, tmp_path / "new", CONFIG).failures
        assert failure.examination_id == "p2"
        assert "not assessable" in failure.reason
        assert "--quality warn" in failure.reason
        (found,) = verify(five, CONFIG).failures
        assert found.reason == failure.reason

    def test_it_is_stored_where_that_is_asked_for(self, five: Path, tmp_path: Path) -> None:
        swap_images(five / "p2")
        warn = CONFIG.model_copy(update={"quality": "warn"})
        result = prepare(five, tmp_path / "new", warn)
        assert not result.failures
        assert "p2: not assessable" in result.summary()
        looked = verify(five, warn)
        assert not looked.failures
        assert "p2: not assessable" in looked.summary()
        assert [failure.examination_id for failure in prepare(five, tmp_path / "new", CONFIG).failures] == ["p2"]


class TestShards:
    def test_gathered_shards_are_the_same_store(self, five: Path, clean: Path, tmp_path: Path) -> None:
        (five / "p3" / "b0.nii.gz").write_bytes(b"")
        whole = prepare(five, tmp_path / "whole", CONFIG)
        for index in (2, 1):
            part = prepare(five, tmp_path / "parts", CONFIG, shard=Shard(index, 2))
            assert part.plan is None
            assert "fvv gather" in part.summary()
        assert not (tmp_path / "parts" / "folds.tsv").exists()
        assert main(["gather", str(tmp_path / "parts")]) == 1  # p3 failed.
        gathered = gather_store(tmp_path / "parts")  # Again, with the same result.
        assert (gathered.prepared, gathered.unchanged) == (whole.prepared, whole.unchanged)
        assert gathered.plan == whole.plan
        one, two = (
            {name: data for name, data in content(tmp_path / folder).items() if ".fvv.shards" not in name}
            for folder in ("whole", "parts")
        )
        assert one["failures.csv"].replace(b"whole", b"parts") == two["failures.csv"]
        assert {k: v for k, v in one.items() if k != "failures.csv"} == {
            k: v for k, v in two.items() if k != "failures.csv"
        }

    def test_a_missing_shard_is_named(self, few: Path, tmp_path: Path) -> None:
        prepare(few, tmp_path / "store", CONFIG, shard=Shard(1, 3))
        with pytest.raises(StoreError, match="2 of 3 shards are not finished: 2/3, 3/3"):
            gather_store(tmp_path / "store")
        with pytest.raises(InputError, match="shards of `fvv prepare` are not gathered"):
            CaseStore.open(tmp_path / "store")
        prepare(few, tmp_path / "store", CONFIG, shard=Shard(1, 2))  # Another division: that of before is void.
        (report,) = (tmp_path / "store" / ".fvv.shards").glob("*/report.json")
        report.write_text("{")
        with pytest.raises(StoreError, match=r"cannot be read.*--shard 1/2` again"):
            gather_store(tmp_path / "store")

    def test_shards_of_another_cohort_are_not_joined(self, five: Path, tmp_path: Path) -> None:
        prepare(five, tmp_path / "store", CONFIG, shard=Shard(1, 2))
        shutil.rmtree(five / "p4")
        prepare(five, tmp_path / "store", CONFIG, shard=Shard(2, 2))
        with pytest.raises(StoreError, match="1 of 2 shards are not finished: 1/2"):
            gather_store(tmp_path / "store")

    def test_shards_work_side_by_side_and_nobody_works_beside_a_whole_run(self, few: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        prepare(few, store, CONFIG, shard=Shard(1, 2))
        partial = store / "cases" / ".partial-12345678-p9.zarr"
        partial.mkdir()  # As another shard has it while it writes.
        with only_writer(shard_place(store, Shard(1, 2))):
            prepare(few, store, CONFIG, shard=Shard(2, 2))
            assert partial.is_dir()
            with pytest.raises(FvvError, match="another fvv process"):
                prepare(few, store, CONFIG, shard=Shard(1, 2))
            with pytest.raises(FvvError, match="another fvv process"):
                gather_store(store)
            with pytest.raises(InputError, match=r"shard 1/2 is running here.*--shard 1/2"):
                prepare(few, store, CONFIG, shard=Shard(1, 3))
        gather_store(store)
        assert not partial.exists()

    def test_a_shard_is_refused_while_a_whole_run_goes_on(
        self, cohort: Path, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fvv.io.shards.PATIENCE_S", 0.0)
        with only_writer(store), pytest.raises(FvvError, match="another fvv process"):
            prepare(cohort, store, CONFIG, shard=Shard(1, 2))
