"""Text that comes from outside (folder names, headers, tables, other programs) made safe to show on one line.

A control character or an ANSI code in a name can forge a line of a log or of a table. Readers apply `plain` to every
text they take from a file, and refuse an examination or a person whose name `is_plain` does not accept.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence


def is_plain(text: str) -> bool:
    """Whether a text shows as one line of printable characters, with nothing that reorders or hides its neighbours."""
    return text.isprintable()


def plain(text: str) -> str:
    r"""The same text on one line: each character that is not printable becomes its Python escape (a line end: `\n`).

    Bidirectional and zero-width marks, lone surrogates (bytes that are no UTF-8) and ANSI codes are not printable.
    """
    if is_plain(text):
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def same_name_key(name: str) -> str:
    """Names with the same key are one name on a disk that ignores case or the form of an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def counted(number: int, one: str, more: str = "") -> str:
    """A number with its noun: `1 patient`, `2 patients`; `more` is a plural that does not end in s alone."""
    return f"{number} {one}" if number == 1 else f"{number} {more or one + 's'}"


def first_few(names: Sequence[object], most: int = 5) -> str:
    """The first names on one line, and how many more there are: `a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return plain(", ".join(map(str, names[:most])) + more)


def first_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two different names that are one name on a disk that ignores case or the form of accents, or None."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(same_name_key(name), name)
        if other != name:
            return other, name
    return None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word nearest to a misspelt one, as the end of a sentence; "" where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def nearest_hint(wanted: Iterable[str], there: Iterable[str]) -> str | None:
    """Which of the names that are there resemble those that are wanted, as a question, or None; at most three pairs."""
    candidates = list(there)
    nearest = ((name, difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)) for name in wanted)
    pairs = [f"{plain(found[0])} for {plain(name)}" for name, found in nearest if found][:3]
    return f"is it {', '.join(pairs)}?" if pairs else None
