"""Tables as files: UTF-8 with a header, tabs for .tsv, commas otherwise; and failures.csv, which every stage writes."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fvv.data import Failure
from fvv.errors import FvvError, InputError, install_hint
from fvv.io.atomic import atomic_write
from fvv.names import first_few, nearest_hint, plain
from fvv.system.regular import read_regular_text

FAILURES_FILE = "failures.csv"
_DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons"}
_BATCH = 1000
"""Rows of a Parquet table that are in memory together; chosen here."""
_FORMULA = re.compile(r"'*[=+\-@]")
"""Text that a spreadsheet takes for a formula, or that is guarded against that (any number of times)."""


def read_table(path: Path, *, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read a table. Cells are stripped text; what cannot be shown on one line is escaped.

    Blank lines are skipped. The apostrophe that `write_table` puts before a formula is removed.

    Raises:
        InputError: missing, no regular file, unreadable, ragged, or without a required column.
    """
    rows = read_lines(path, required=required)
    return [{plain(key): plain(cell) for key, cell in row.items()} for _, row in rows]


def read_lines(
    path: Path, *, required: Sequence[str] = (), other_names: Mapping[str, str] = MappingProxyType({})
) -> list[tuple[int, dict[str, str]]]:
    """The rows of `read_table`, with every character as it is, each with the number of its (last) line in the file.

    Args:
        path: of the table.
        required: columns it must have.
        other_names: of columns, each with the name under which it is read.

    Raises:
        InputError: as `read_table`.
    """
    text = read_regular_text(path).removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path), strict=True)
    try:
        lines = [(reader.line_num, [_without_guard(cell.strip()) for cell in cells]) for cells in reader]
    except csv.Error as error:
        message = f"line {reader.line_num}: not a table: {error}"
        raise InputError(message, file=path, hint="a quote too many?") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    columns = [other_names.get(name, name) for name in lines[0][1]] if lines else []
    if len(set(columns)) != len(columns):
        raise InputError(f"has a column twice: {columns!a}", file=path)
    if missing := [name for name in required if name not in columns]:
        hint = _other_delimiter(columns, path) or nearest_hint(missing, columns)
        raise InputError(f"lacks column {', '.join(missing)}; it has {columns!a}", file=path, hint=hint)
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            message = f"line {number} has another number of cells than the header: {len(cells)} instead of"
            raise InputError(f"{message} {len(columns)}", file=path)
    return [(number, dict(zip(columns, cells, strict=True))) for number, cells in lines[1:]]


def write_table(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    columns: Sequence[str] | None = None,
    without_rows: Sequence[str] = (),
) -> None:
    """Write rows atomically, one after another. None becomes an empty cell (n/a in .tsv, as in BIDS).

    A text that a spreadsheet would run as a formula (it begins with = + - @ and is no number) gets an apostrophe in
    front; `read_table` removes it.

    Args:
        columns: names, in order; None: those of the first row.
        without_rows: the names then, if there is no row.
    """
    remaining = iter(rows)
    first = list(islice(remaining, 1))
    names = list(columns or (first[0] if first else without_rows))
    unknown = "n/a" if path.suffix == ".tsv" else ""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, delimiter=_delimiter(path), lineterminator="\n")
        writer.writeheader()
        for row in chain(first, remaining):
            writer.writerow({name: unknown if row[name] is None else _guarded(row[name]) for name in names})


def require_parquet() -> None:
    """Refuse before hours of work what `write_parquet` could not do.

    Raises:
        FvvError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        hint = f"{install_hint('parquet')}; or omit --parquet: results.csv has the same rows"
        raise FvvError("a Parquet table needs pyarrow, which is not installed", hint=hint)


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, type]) -> None:
    """Write rows as Parquet, atomically. None is null.

    Args:
        columns: name and type of each column, in order: float (64 bits), int (64 bits) or str.

    Raises:
        FvvError: pyarrow is not installed.
    """
    require_parquet()
    import pyarrow  # noqa: PLC0415  (an extra)
    import pyarrow.parquet  # noqa: PLC0415

    kinds = {float: pyarrow.float64(), int: pyarrow.int64(), str: pyarrow.string()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    remaining = iter(rows)  # In batches, as a row takes ten times the memory of its cells in a column.
    batches = iter(lambda: list(islice(remaining, _BATCH)), [])
    parts = [pyarrow.Table.from_pylist(batch, schema) for batch in batches]
    with atomic_write(path) as temporary:
        table = pyarrow.concat_tables([schema.empty_table(), *parts]).combine_chunks()
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write failures.csv: examination_id, reason. With no failure the table has only its header."""
    rows = ({"examination_id": failure.examination_id, "reason": failure.reason} for failure in failures)
    write_table(path, rows, columns=("examination_id", "reason"))


def failure_of(patient: str, error: FvvError) -> Failure:
    """The row of failures.csv for an error, on one line."""
    return Failure(patient, plain(str(error.for_examination(patient))))


def counted_reasons(failures: Iterable[Failure], most: int = 5) -> str:
    """Why examinations failed, on one line: each kind of reason with how many and the first names, the commonest first.

    Reasons are of one kind where they differ in names, folders and numbers alone; the first of a kind stands for it.

    Args:
        most: kinds that are named; the others are counted.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for failure in failures:
        reason = _without_place(failure)
        kinds.setdefault(re.sub(r"\d+(\.\d+)?", "0", reason), []).append((failure.examination_id, reason))
    ranked = sorted(kinds.values(), key=len, reverse=True)
    texts = [f"{len(kind)}: {kind[0][1]} [{first_few([name for name, _ in kind], 3)}]" for kind in ranked[:most]]
    rest = sum(map(len, ranked[most:]))
    return "; ".join([*texts, *([f"{rest}: other reasons"] if rest else [])])


def left_out_of(folder: Path) -> str:
    """Who is missing from what a stage wrote into a folder, by its failures.csv, as the end of a sentence; or ""."""
    path = folder / FAILURES_FILE
    rows = read_table(path) if path.exists() else []
    failures = [Failure(row.get("examination_id", ""), row.get("reason", "")) for row in rows]
    return f"; {len(failures)} examinations are missing. {counted_reasons(failures)}" if failures else ""


def _without_place(failure: Failure) -> str:
    """A reason without the examination, the folders of its files and the hint how to fix it."""
    name = re.escape(failure.examination_id)
    reason = re.sub(rf"^patient {name}(, |: )", "", failure.reason)
    reason = re.sub(rf"\S*[/\\]{name}[/\\](?=\S)", "", reason)
    return re.sub(r" \(.*\)$", "", reason)


def _other_delimiter(columns: Sequence[str], path: Path) -> str | None:
    expected = _DELIMITERS[_delimiter(path)]
    used = [name for sign, name in _DELIMITERS.items() if name != expected and len(columns) == 1 and sign in columns[0]]
    return f"its cells are separated by {used[0]}, {path.suffix} needs {expected}" if used else None


def _guarded(value: Any) -> Any:
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _without_guard(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","
