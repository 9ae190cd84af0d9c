"""`prepare` into a store that is there: nothing is lost that nobody asked to lose, and nobody changes side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import save, write_cohort, write_patient
from fvv.config import PROFILES, PrepareConfig
from fvv.data import FoldPlan, Role
from fvv.errors import FvvError, OutputExistsError, StoreError
from fvv.io.lock import only_writer
from fvv.io.manifest import read_folds, read_table
from fvv.io.shards import shard_place
from fvv.io.store import CaseStore
from fvv.stages.prepare import gather_store, prepare
from fvv.stages.verify import verify
from fvv.system.shard import Shard

CONFIG = PrepareConfig(kfolds=2, workers=1)


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
def store(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean / "store", tmp_path / "store"))


def content(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != ".fvv.lock")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def sides(plan: FoldPlan) -> dict[str, tuple[Role, ...]]:
    return {row.participant: row.roles for row in plan.rows}


def swap_images(patient: Path) -> None:
    """b0 and b1000 under each other's name."""
    (patient / "b0.nii.gz").rename(patient / "x.nii.gz")
    (patient / "b1000.nii.gz").rename(patient / "b0.nii.gz")
    (patient / "x.nii.gz").rename(patient / "b1000.nii.gz")


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
        assert [failure.patient for failure in result.failures] == ["p1"]
        after = content(store)
        for name in ("failures.csv",):
            assert before.pop(name) != after.pop(name)
        assert before == after

    def test_it_leaves_on_request(self, cohort: Path, store: Path) -> None:
        shutil.rmtree(cohort / "p1")
        swap_images(cohort / "p3")
        (cohort / "p2" / "b1000.nii.gz").unlink()
        result = prepare(cohort, store, CONFIG, prune=True)
        assert [failure.patient for failure in result.failures] == ["p2", "p3"]
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
    def test_new_patients_join_and_nobody_changes_side(self, cohort: Path, store: Path) -> None:
        before = sides(read_folds(store / "folds.tsv"))
        for number in range(6, 10):
            write_patient(cohort / f"p{number}", np.random.default_rng(number))
        plan = prepare(cohort, store, CONFIG).plan
        assert sides(plan).items() >= before.items()
        assert [len(plan.participants(fold, Role.TEST)) for fold in range(2)] == [5, 5]

    def test_a_new_scan_of_a_known_person_takes_that_persons_side(self, cohort: Path, store: Path) -> None:
        names = [f"p{number}" for number in range(7)]
        write_patient(cohort / "p6", np.random.default_rng(6))
        rows = "".join(f"{name}\t{'p1' if name == 'p6' else name}\n" for name in names)
        (cohort / "participants.tsv").write_text("participant_id\tpatient_id\n" + rows)
        after = sides(prepare(cohort, store, CONFIG).plan)
        assert after["p6"] == after["p1"]

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

    def test_other_settings_do_not_draw_an_edited_split_again(self, cohort: Path, store: Path) -> None:
        other = CONFIG.model_copy(update={"kfolds": 3})
        file = store / "folds.tsv"
        lines = file.read_text().splitlines()
        file.write_text("\n".join(lines[:-1]) + "\n")
        with pytest.raises(StoreError, match=r"edited or given, and other settings \(kfolds 3.*kfolds 2"):
            prepare(cohort, store, other)
        file.write_text("\n".join(lines) + "\n")  # Not edited: it is drawn again.
        assert prepare(cohort, store, other).plan.n_folds == 3

    def test_a_deleted_split_comes_back_as_it_was(self, cohort: Path, store: Path) -> None:
        before = content(store)
        (store / "folds.tsv").unlink()
        prepare(cohort, store, CONFIG)
        assert content(store) == before

    def test_a_patient_that_fails_leaves_the_split_and_returns_to_its_side(self, cohort: Path, store: Path) -> None:
        before = sides(read_folds(store / "folds.tsv"))
        swap_images(cohort / "p4")
        assert "p4" not in sides(prepare(cohort, store, CONFIG).plan)
        write_patient(cohort / "p6", np.random.default_rng(6))
        prepare(cohort, store, CONFIG)
        swap_images(cohort / "p4")
        assert sides(prepare(cohort, store, CONFIG).plan).items() >= before.items()

    def test_a_split_that_cannot_be_kept_is_drawn_again_unless_it_was_edited(self, cohort: Path, store: Path) -> None:
        config = CONFIG.model_copy(update={"kfolds": 3})
        plan = prepare(cohort, store, config).plan
        for copy in store.glob("folds_before_*.tsv"):
            copy.unlink()
        text = (store / "folds.tsv").read_text()
        for name in plan.participants(0, Role.TEST):
            swap_images(cohort / name)
        plan = prepare(cohort, store, config).plan
        assert len(plan.rows) == 4
        (copy,) = store.glob("folds_before_*.tsv")
        assert copy.read_text() == text
        edited = (store / "folds.tsv").read_text().replace("valid", "train", 1)
        (store / "folds.tsv").write_text(edited)
        (alone,) = next(part for fold in range(3) if len(part := plan.participants(fold, Role.TEST)) == 1)
        swap_images(cohort / alone)
        with pytest.raises(StoreError, match=r"has no (test|train) patient"):
            prepare(cohort, store, config)
        assert (store / "folds.tsv").read_text() == edited
        assert len(read_table(store / "failures.csv")) == 3

    def test_two_sides_of_one_person_are_refused_before_any_work(self, cohort: Path, store: Path) -> None:
        plan = read_folds(store / "folds.tsv")
        one, two = (plan.participants(fold, Role.TEST)[0] for fold in range(2))
        rows = "".join(f"p{n}\t{'same' if f'p{n}' in {one, two} else f'p{n}'}\n" for n in range(6))
        (cohort / "participants.tsv").write_text("participant_id\tpatient_id\n" + rows)
        before = content(store)
        with pytest.raises(StoreError, match=r"are one person \(same\) on different sides"):
            prepare(cohort, store, CONFIG)
        assert content(store) == before

    def test_a_given_split_stays_and_who_is_not_in_it_stays_out(self, cohort: Path, store: Path) -> None:
        given = store.parent / "mine.tsv"
        given.write_text("participant_id\tpatient_id\tfold_0\np0\tp0\ttrain\np1\tp1\ttest\np2\tp2\tvalid\n")
        prepare(cohort, store, CONFIG, folds=given)
        write_patient(cohort / "p6", np.random.default_rng(6))
        assert list(sides(prepare(cohort, store, CONFIG).plan)) == ["p0", "p1", "p2"]


class TestProfiles:
    def test_a_killed_change_of_profile_is_seen_and_can_go_on(self, cohort: Path, store: Path) -> None:
        half = CaseStore.create(store, PROFILES["robust-v2"], {})  # As a run does first; then it is killed.
        with pytest.raises(
            StoreError, match=r"prepared under another profile than the store's, robust-v2.*run it again"
        ):
            half.record("p0")
        with pytest.raises(StoreError, match="another profile"):
            half.read_slab("p0", 0, 2)
        result = prepare(cohort, store, CONFIG.model_copy(update={"profile": "robust-v2"}))
        assert (result.prepared, result.unchanged) == (6, 0)
        assert CaseStore.open(store).read("p0").patient == "p0"

    def test_patients_of_an_earlier_version_are_of_the_stores_profile_alone(self, store: Path) -> None:
        file = store / "store.json"
        described = json.loads(file.read_text())
        del described["profile_in_records"]
        file.write_text(json.dumps(described))
        for record in (store / "cases").glob("*.zarr/zarr.json"):
            group = json.loads(record.read_text())
            del group["attributes"]["profile_sha256"], group["attributes"]["attributes_sha256"]
            record.write_text(json.dumps(group))
        assert CaseStore.open(store).record("p0").n_slices == 10
        CaseStore.create(store, PROFILES[CONFIG.profile], {})
        assert CaseStore.open(store).record("p0").n_slices == 10
        CaseStore.create(store, PROFILES["robust-v2"], {})
        with pytest.raises(StoreError, match="another profile"):
            CaseStore.open(store).record("p0")

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

    def test_a_store_of_an_earlier_version_is_known_and_its_split_counts_as_edited(
        self, cohort: Path, store: Path
    ) -> None:
        (store / ".fvv.json").unlink()
        (store / "split.json").unlink()
        split = (store / "folds.tsv").read_text()
        write_patient(cohort / "p6", np.random.default_rng(6))
        with pytest.raises(StoreError, match="edited or given"):
            prepare(cohort, store, CONFIG.model_copy(update={"kfolds": 3}))
        prepare(cohort, store, CONFIG)
        assert (store / "folds.tsv").read_text().startswith(split)


DAMAGE = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema_version": []}', b'{"schema_version": 1, "rows": 3}']


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

    @pytest.mark.parametrize("damage", [b"", b"participant_id\n", b"\xff", b"participant_id\tpatient_id\tfold_0\np0\n"])
    def test_a_damaged_split_is_refused_with_the_way_out(self, cohort: Path, store: Path, damage: bytes) -> None:
        before = content(store)
        (store / "folds.tsv").write_bytes(damage)
        with pytest.raises(StoreError, match="delete it: `fvv prepare` then writes the last split again"):
            prepare(cohort, store, CONFIG)
        (store / "folds.tsv").unlink()
        prepare(cohort, store, CONFIG)
        assert content(store) == before

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"attributes": 3}', b'{"zarr_format": 3}'])
    def test_a_damaged_patient_is_prepared_again(self, cohort: Path, store: Path, damage: bytes) -> None:
        (store / "cases" / "p1.zarr" / "zarr.json").write_bytes(damage)
        with pytest.raises(StoreError, match="damaged"):
            CaseStore.open(store).record("p1")
        result = prepare(cohort, store, CONFIG)
        assert (result.prepared, result.unchanged, result.failures) == (1, 5, ())


class TestQuality:
    def test_what_would_be_no_answer_for_a_new_patient_is_not_learned_from(self, cohort: Path, tmp_path: Path) -> None:
        swap_images(cohort / "p2")
        (failure,) = prepare(cohort, tmp_path / "new", CONFIG).failures
        assert failure.patient == "p2"
        assert "not assessable" in failure.reason
        assert "--quality warn" in failure.reason
        (found,) = verify(cohort, CONFIG).failures
        assert found.reason == failure.reason

    def test_it_is_stored_where_that_is_asked_for(self, cohort: Path, tmp_path: Path) -> None:
        swap_images(cohort / "p2")
        warn = CONFIG.model_copy(update={"quality": "warn"})
        result = prepare(cohort, tmp_path / "new", warn)
        assert not result.failures
        assert "p2: not assessable" in result.summary()
        looked = verify(cohort, warn)
        assert not looked.failures
        assert "p2: not assessable" in looked.summary()
        assert [failure.patient for failure in prepare(cohort, tmp_path / "new", CONFIG).failures] == ["p2"]

    def test_a_finding_that_does_not_refuse_is_listed(self, cohort: Path) -> None:
        image = nib.load(cohort / "p0" / "b1000.nii.gz")
        array = np.asarray(image.dataobj)
        array[20:40, 20:40, 4] = 4 * array.max()
        save(cohort / "p0" / "b1000.nii.gz", array, image.affine)
        result = verify(cohort, CONFIG)
        assert any(note.startswith("p0: warning: ") for note in result.notes) or result.failures


class TestShards:
    def test_gathered_shards_are_the_same_store(self, cohort: Path, clean: Path, tmp_path: Path) -> None:
        (cohort / "p3" / "b0.nii.gz").write_bytes(b"")
        whole = prepare(cohort, tmp_path / "whole", CONFIG)
        for index in (2, 1):
            part = prepare(cohort, tmp_path / "parts", CONFIG, shard=Shard(index, 2))
            assert part.plan is None
            assert "fvv gather" in part.summary()
        assert not (tmp_path / "parts" / "folds.tsv").exists()
        gathered = gather_store(tmp_path / "parts")
        assert (gathered.prepared, gathered.unchanged) == (whole.prepared, whole.unchanged)
        assert gathered.plan == whole.plan
        one, two = (content(tmp_path / name) for name in ("whole", "parts"))
        assert one["failures.csv"].replace(b"whole", b"parts") == two["failures.csv"]
        assert {k: v for k, v in one.items() if k != "failures.csv"} == {
            k: v for k, v in two.items() if k != "failures.csv"
        }

    def test_a_missing_shard_is_named(self, cohort: Path, tmp_path: Path) -> None:
        prepare(cohort, tmp_path / "store", CONFIG, shard=Shard(1, 3))
        with pytest.raises(StoreError, match="2 of 3 shards are not finished: 2/3, 3/3"):
            gather_store(tmp_path / "store")
        prepare(cohort, tmp_path / "store", CONFIG, shard=Shard(1, 2))  # Another division: that of before is void.
        (report,) = (tmp_path / "store" / ".fvv.shards").glob("*/report.json")
        report.write_text("{")
        with pytest.raises(StoreError, match=r"cannot be read.*--shard 1/2` again"):
            gather_store(tmp_path / "store")

    def test_shards_work_side_by_side_and_nobody_works_beside_a_whole_run(self, cohort: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        prepare(cohort, store, CONFIG, shard=Shard(1, 2))
        partial = store / "cases" / ".partial-12345678-p9.zarr"
        partial.mkdir()  # As another shard has it while it writes.
        with only_writer(shard_place(store, Shard(1, 2))):
            prepare(cohort, store, CONFIG, shard=Shard(2, 2))
            assert partial.is_dir()
            with pytest.raises(FvvError, match="another fvv process"):
                prepare(cohort, store, CONFIG, shard=Shard(1, 2))
            with pytest.raises(FvvError, match="another fvv process"):
                gather_store(store)
        gather_store(store)
        assert not partial.exists()

    def test_a_shard_is_refused_while_a_whole_run_goes_on(
        self, cohort: Path, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fvv.io.shards.PATIENCE_S", 0.0)
        with only_writer(store), pytest.raises(FvvError, match="another fvv process"):
            prepare(cohort, store, CONFIG, shard=Shard(1, 2))

    def test_verify_looks_at_its_part(self, cohort: Path) -> None:
        assert verify(cohort, CONFIG, shard=Shard(1, 4)).patients == 2


def test_the_table_joins_nothing_from_a_patient_that_is_away(cohort: Path, tmp_path: Path) -> None:
    rows = "".join(f"p{n}\tperson{n}\n" for n in (0, 1, 2, 3, 4, 5, 7))
    (cohort / "participants.tsv").write_text("participant_id\tpatient_id\n" + rows)
    (failure,) = prepare(cohort, tmp_path / "new", CONFIG).failures
    assert failure.patient == "p7"
    assert read_table(tmp_path / "new" / "failures.csv")[0]["reason"].endswith(
        "is the disk mounted, and the name right?)"
    )


class TestDamagedVoxels:
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
