#!/usr/bin/env python
"""The command line of a BIDS App for `fvv predict`: BIDS_DIR OUTPUT_DIR participant [--participant_label LABEL ...].

Every other option goes to `fvv predict` as it is (`fvv predict --help`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fvv.cli import main as fvv


def main(words: Sequence[str]) -> int:
    """Predict the participants of a BIDS data set into a derivative data set; the exit code of `fvv predict`."""
    parser = argparse.ArgumentParser(prog="fvv-bids", description=__doc__, allow_abbrev=False)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("level", choices=["participant"], help="the only level: each examination is predicted alone")
    parser.add_argument("--participant_label", "--participant-label", nargs="+", default=[], metavar="LABEL")
    parser.add_argument("--skip_bids_validator", action="store_true", help="accepted; nothing is validated here")
    known, others = parser.parse_known_args(words)
    labels = [f"sub-{label.removeprefix('sub-')}" for label in known.participant_label]
    if missing := [label for label in labels if not (known.bids_dir / label).is_dir()]:
        parser.error(f"{', '.join(missing)}: no such folder in {known.bids_dir}")
    with tempfile.TemporaryDirectory() as folder:
        chosen = _only(known.bids_dir, labels, Path(folder)) if labels else known.bids_dir
        return fvv(["predict", str(chosen), "-o", str(known.output_dir), "--layout", "bids", *others])


def _only(data_set: Path, labels: Sequence[str], folder: Path) -> Path:
    """The same data set with these participants alone, as links."""
    for entry in data_set.resolve().iterdir():
        if entry.is_file() or entry.name in labels:
            (folder / entry.name).symlink_to(entry)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
