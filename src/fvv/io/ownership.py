"""Which files of a folder this program wrote: a run replaces or removes only those, whatever else lies there.

The names are written to a marker file before the files themselves, so that a run killed at any moment leaves nothing
that the next run does not know as its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic_core import from_json

from fvv.errors import InputError, OutputExistsError
from fvv.io.atomic import write_text
from fvv.names import plain
from fvv.schemas.ownership import Marker
from fvv.system.regular import read_regular_text

MARKER = ".fvv.json"


def claimed(folder: Path, *, stage: str = "") -> frozenset[str]:
    """Names of the files and subfolders of a folder that this program, or this stage, wrote or was about to write."""
    return frozenset(name for name, writer in _writers(folder).items() if stage in {"", writer})


def _writers(folder: Path) -> dict[str, str]:
    marker = folder / MARKER
    if not marker.exists():
        return {}
    try:
        return Marker.parse(from_json(read_regular_text(marker)), marker).writers
    except (InputError, ValueError, AttributeError) as error:
        message = f"cannot be read ({error}): it is not known which files here may be replaced"
        raise OutputExistsError(message, file=marker, hint="choose another output folder") from error


def claim(folder: Path, names: Iterable[str], *, stage: str = "") -> None:
    """Take names in a folder before files or subfolders of these names are written there.

    Args:
        folder: made where it is not there.
        names: of files and subfolders in it. A subfolder that is claimed is this program's with all it holds; of one
            that others write to as well, single files are claimed ("dicom/report.dcm").
        stage: that writes them, where another stage writes files of the same names (failures.csv, report.html).

    Raises:
        OutputExistsError: something of such a name is there, and this program, or this stage of it, did not write it.
            `--overwrite` does not help: other people's files are never replaced.
    """
    wanted, known = set(names), _writers(folder)
    for name in sorted(wanted):
        path, writer = folder / name, known.get(name)
        other = writer is None or (stage and writer and writer != stage)
        if other and (path.exists() or path.is_symlink()):
            by = f"written by `fvv {writer}`" if writer else "not written by fvv"
            hint = "choose another output folder, or move it away"
            raise OutputExistsError(f"already there, and {by}", file=path, hint=hint)
    now = known | {name: stage or known.get(name, "") for name in wanted}
    if now != known:
        marker = Marker(writers=dict(sorted(now.items())))
        write_text(folder / MARKER, marker.model_dump_json(indent=1) + "\n")


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder in which other people's files lie and nothing of this program; writes nothing.

    Raises:
        OutputExistsError: so it is. Hidden files count for nothing, and a folder that is not there is fine.
    """
    if not folder.is_dir() or claimed(folder):
        return
    others = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    if others:
        message = f"holds files that fvv did not write, such as {plain(others[0])}"
        raise OutputExistsError(message, file=folder, hint="choose another output folder")
