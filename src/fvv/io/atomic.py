"""Writing so that a file is either whole or not there."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fvv.errors import FvvError
from fvv.io.listing import paths

_OURS = re.compile(r"\.(partial|replaced)-[0-9a-f]{8}-(?P<target>.+)", re.DOTALL)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside the target; rename it into place when the block ends without error.

    Args:
        path: file or folder to make; parents are created. The temporary path keeps its suffixes.

    Raises:
        FvvError: the target cannot be written (permission, full disk), or a file that the block reads cannot be read;
            it names the one or the other.
    """
    temporary = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    except OSError as error:
        raise _named(error, path, temporary) from error
    except FvvError as error:
        if error.file is not None and error.file.startswith(f"{temporary}{os.sep}"):
            error.file = f"{path}{error.file.removeprefix(str(temporary))}"  # Nobody can find the temporary one.
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink()


def _named(error: OSError, path: Path, temporary: Path) -> FvvError:
    reason = error.strerror or str(error)
    if error.filename is None or isinstance(error.filename, int):  # A disk that is full says no name.
        return FvvError(f"cannot write: {reason}" if error.errno else f"not written: {reason}", file=path)
    named = Path(os.fsdecode(error.filename))
    if named == temporary or temporary in named.parents:
        return FvvError(f"cannot write: {reason}", file=path)
    if named == path or named in path.parents:
        return FvvError(f"cannot write: {reason}", file=named)
    return FvvError(reason, file=named)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_chunks(path: Path, chunks: Iterable[str]) -> None:
    """Write UTF-8 text atomically, piece by piece as it is made: the whole of it is never in memory."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(chunks)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def clear_remains(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove what killed runs left half-written in a folder; put back what they had moved aside and not replaced.

    Only what carries a name that `atomic_write` gives is touched. What cannot be removed stays.

    Args:
        folder: that no other process writes in; one that is not there holds no remains. Its `entries` are looked at.
        names: of the targets; None: all.
    """
    if not folder.is_dir():
        return
    remains = [(item, found) for item in paths(folder) if (found := _OURS.fullmatch(item.name))]
    for item, found in remains:
        if names is not None and found["target"] not in names:
            continue
        with suppress(OSError):
            if found[1] == "partial" and item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            elif found[1] == "partial":
                item.unlink()
            elif os.path.lexists(folder / found["target"]):
                shutil.rmtree(item)
            else:
                item.rename(folder / found["target"])


def _replace_folder(temporary: Path, path: Path) -> None:
    # A folder cannot be renamed onto a full one: move the old one aside first.
    if path.exists():
        aside = path.with_name(f".replaced-{secrets.token_hex(4)}-{path.name}")
        path.rename(aside)
        temporary.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        temporary.rename(path)
