"""What can go wrong, said so that the reader can mend it.

Every error names the patient and the file where it knows them, what was expected, what was found and how to mend it.
`cli.py` prints one line per error; the stages record it in `failures.csv` and go on with the next patient.
"""

from __future__ import annotations

from pathlib import Path


class FvvError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        message: what was expected and what was found, in one sentence.
        patient: folder name of the patient, where one is concerned.
        file: the file, where one is concerned.
        hint: how to mend it.
    """

    def __init__(
        self, message: str, *, patient: str | None = None, file: str | Path | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.patient = patient
        self.file = None if file is None else str(file)
        self.hint = hint

    def for_patient(self, patient: str) -> FvvError:
        """Fill in the patient where the raising code did not know it; returns the error itself."""
        self.patient = self.patient or patient
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries in parallel stages: pickle them with their context.
        return _rebuild, (type(self), self.message, self.patient, self.file, self.hint)

    def __str__(self) -> str:
        where = [f"patient {self.patient}"] if self.patient else []
        where += [self.file] if self.file else []
        line = ": ".join([", ".join(where), self.message] if where else [self.message])
        return f"{line} ({self.hint})" if self.hint else line


def _rebuild(kind: type[FvvError], message: str, patient: str | None, file: str | None, hint: str | None) -> FvvError:
    return kind(message, patient=patient, file=file, hint=hint)


class ConfigError(FvvError):
    """A setting is unknown, of the wrong type or out of range."""


class InputError(FvvError):
    """An input file is missing, unreadable or holds what it should not."""


class GeometryError(FvvError):
    """Shapes, affines or axes do not fit together."""


class MaskError(FvvError):
    """No trustworthy brain mask: nothing may be measured."""


class StoreError(FvvError):
    """The store of prepared patients, or its split file, is missing, damaged or inconsistent."""


class TrainingError(FvvError):
    """Training cannot start or go on."""


class ModelError(FvvError):
    """A checkpoint, an ONNX file or a bundle is missing, damaged or not the one asked for."""


class OutputExistsError(FvvError):
    """An output is already there and overwriting was not asked for."""
