"""What can go wrong, said so that the reader can fix it.

Every error names the patient and the file where it knows them, what was expected, what was found and how to fix it.
`cli.py` prints one line per error; the stages record it in `failures.csv` and go on with the next patient.
"""

from __future__ import annotations

import errno
import sys
import traceback
from pathlib import Path

from fvv.names import plain

_WITHOUT_DOCSTRINGS = 2
"""Python's -OO."""


class FvvError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        message: what was expected and what was found, in one sentence.
        examination_id: the examination (folder name), where one is concerned.
        file: the file, where one is concerned.
        hint: how to fix it.

    Examples:
        >>> import fvv
        >>> try:
        ...     fvv.read("b0.nii.gz.txt")
        ... except fvv.FvvError as error:
        ...     print(error.file)
        b0.nii.gz.txt
    """

    def __init__(
        self,
        message: str,
        *,
        examination_id: str | None = None,
        file: str | Path | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.examination_id = examination_id
        self.file = None if file is None else str(file)
        self.hint = hint

    def for_examination(self, examination_id: str) -> FvvError:
        """Fill in the examination where the raising code did not know it; returns the error itself."""
        self.examination_id = self.examination_id or examination_id
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries in parallel stages: pickle them with their context.
        return _rebuild, (type(self), self.message, self.examination_id, self.file, self.hint)

    def __str__(self) -> str:
        """One line of printable characters, whatever a name, a file or another program put into it."""
        where = [f"patient {self.examination_id}"] if self.examination_id else []
        where += [self.file] if self.file else []
        message = " ".join(part for line in self.message.splitlines() if (part := line.strip()))
        line = ": ".join([", ".join(where), message] if where else [message])
        return plain(f"{line} ({self.hint})" if self.hint else line)


def _rebuild(
    kind: type[FvvError], message: str, examination_id: str | None, file: str | None, hint: str | None
) -> FvvError:
    return kind(message, examination_id=examination_id, file=file, hint=hint)


def install_hint(extra: str) -> str:
    """How to install an extra, as the README installs the package."""
    return f"in the clone of fvv: pip install -c constraints.txt '.[{extra}]'"


class ConfigError(FvvError):
    """A setting is unknown, of the wrong type or out of range."""


class InputError(FvvError):
    """An input file is missing, unreadable or holds what it should not.

    Every reader raises it for whatever is wrong with a file, and says so only where there is more to know.
    """


class GeometryError(FvvError):
    """Shapes, affines or axes do not fit together."""


class MaskError(FvvError):
    """No trustworthy brain mask: nothing may be measured."""


class StatisticsError(FvvError, ValueError):
    """Numbers or labels from which no statistic can be computed."""


class StoreError(FvvError):
    """The store of prepared patients, or its split file, is missing, damaged or inconsistent."""


class TrainingError(FvvError):
    """Training cannot start or go on."""


class ModelError(FvvError):
    """A checkpoint, an ONNX file or a bundle is missing, damaged or not the one asked for."""


class OutputExistsError(FvvError):
    """An output is already there and overwriting was not asked for."""


class UnexpectedError(FvvError):
    """Something that nobody foresaw went wrong with one item: a fault of this program or of a library it uses."""


def as_fvv_error(error: Exception) -> FvvError:
    """Any exception as an error of this package: itself where it is one, else with its kind, message and place."""
    if isinstance(error, FvvError):
        return error
    if isinstance(error, MemoryError):
        hint = "use fewer workers (--workers 1), or a machine with more memory"
        return FvvError(f"memory ran out{_told(error)}", hint=hint)
    if isinstance(error, OSError) and error.strerror:
        many = "raise the limit (`ulimit -n`), or use fewer workers"
        return FvvError(error.strerror, file=error.filename, hint=many if error.errno == errno.EMFILE else None)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("fvv"):
        return FvvError(f"{error.name} is needed, which is not installed")
    if isinstance(error, ImportError) and not (error.name or "").startswith("fvv"):
        return FvvError(f"a library cannot be loaded{_told(error)}", hint=_why_not_loaded())
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(Path(__file__).parent)]
    place = f" ({Path(ours[-1].filename).name}, line {ours[-1].lineno})" if ours else ""
    hint = "unexpected: please report it; --verbose shows where it came from"
    return UnexpectedError(f"{type(error).__name__}{_told(error)}{place}", hint=hint)


def _why_not_loaded() -> str:
    if sys.flags.optimize >= _WITHOUT_DOCSTRINGS:
        return "libraries need their docstrings: unset PYTHONOPTIMIZE, run Python without -OO"
    return "memory may be limited (ulimit -v), or the installation damaged: install again"


def _told(error: Exception) -> str:
    return f": {message[:500]}" if (message := str(error)) else ""
