"""What a node keeps on disk."""

from __future__ import annotations

import runpy

import fvv.schemas.node


def test_validators_that_threads_of_a_node_share_are_built_at_import() -> None:
    kinds = runpy.run_path(fvv.schemas.node.__file__)
    assert all(kinds[name].__pydantic_complete__ for name in ("StudyRecord", "Health"))
