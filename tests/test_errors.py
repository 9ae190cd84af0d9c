from __future__ import annotations

import pickle

from fvv.errors import StoreError


def test_errors_cross_process_borders_whole() -> None:
    error = StoreError("broken", examination_id="p", file="x.nii", hint="correct it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is StoreError
    assert str(again) == str(error) == "patient p, x.nii: broken (correct it)"
