"""What `prepare` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fvv.config import ComputeConfig, PrepareConfig
from fvv.schemas.store import ShardReport
from fvv.system.shard import Shard

REPORT = ShardReport(shard=Shard(1, 2), config=PrepareConfig(), prune=False, cohort_sha256="c")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"shard": Shard(2, 2)}, True),
        ({"config": PrepareConfig(compute=ComputeConfig(workers=3))}, True),
        ({"shard": Shard(2, 3)}, False),
        ({"config": PrepareConfig(seed=5)}, False),
        ({"prune": True}, False),
    ],
)
def test_shards_of_one_run_differ_in_number_and_processes_alone(change: dict[str, object], *, same: bool) -> None:
    assert REPORT.of_one_run(REPORT.model_copy(update=change)) is same


def test_a_report_is_read_as_it_was_written() -> None:
    assert ShardReport.parse(REPORT.model_dump(mode="json"), Path("report.json")) == REPORT
