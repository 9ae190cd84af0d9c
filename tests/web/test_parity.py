"""One truth, two languages: the page's engine answers as Python does (`make web` builds it; without it, skipped)."""

from __future__ import annotations

from pathlib import Path

import pytest

from web.parity import ENGINE, NODE, Comparison, compared, write_cases

pytest.importorskip("nilearn", reason="the cases are simulated")
pytestmark = pytest.mark.skipif(NODE is None or not ENGINE.exists(), reason="no engine: make web")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Comparison]:
    folder = tmp_path_factory.mktemp("parity")
    write_cases(folder / "cases", folder, everything=False)
    return {row.name: row for row in compared(folder / "cases")}


def test_every_case_has_one_answer(rows: dict[str, Comparison]) -> None:
    assert len(rows) >= 13
    assert [str(row) for row in rows.values() if not row.agrees] == []


def test_the_cases_tell_answers_refusals_and_failures_apart(rows: dict[str, Comparison]) -> None:
    assert {row.python for row in rows.values()} >= {"not assessable", "refused"}
    assert any(row.python.startswith("mismatch") for row in rows.values())


def test_predictions_are_equal_on_the_native_grid(rows: dict[str, Comparison]) -> None:
    assert {row.files_differ for row in rows.values()} <= {None, 0}


def test_sources_and_build_are_of_one_age() -> None:
    newest = max(path.stat().st_mtime for path in (Path(ENGINE).parents[2] / "src" / "engine").rglob("*.ts"))
    assert ENGINE.stat().st_mtime >= newest - 1, "the engine was changed: make web"
