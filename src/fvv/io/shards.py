"""Several shards of one run in one folder: each holds it only for the moment in which it takes its names."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fvv.errors import FvvError
from fvv.io.lock import only_writer

_PATIENCE_S = 60.0
"""A thousand shards that start at once take their names one after the other."""


@contextmanager
def claiming(root: Path) -> Iterator[None]:
    """Hold a folder for a moment, waiting for the other shards that do.

    Raises:
        FvvError: a whole run holds it, or it cannot be written.
    """
    until = time.monotonic() + _PATIENCE_S
    with ExitStack() as hold:
        while True:
            try:
                hold.enter_context(only_writer(root, clear=False))
                break
            except FvvError as error:
                if "another fvv process" not in error.message or time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0.02, 0.2))  # noqa: S311  (not a secret)
        yield
