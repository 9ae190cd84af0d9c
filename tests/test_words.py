"""Plain words: what the glossary has another word for does not come back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INSTEAD = {
    r"\banew\b": "again",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bunasked\b": "without asking",
    r"\bin place of\b": "instead of",
    r"\bsays something else\b": "differs from",
    r"\btrue (mask|lesion|stroke)s?\b": "reference",
    r"\b(mask|lesion|stroke|voxel)s? (is|are|was|were) (drawn|marked)\b": "reference, or predicted",
    r"\bmarked by (the|a|one) (model|network)": "predicted by",
    r"\bmodels? (that )?marks?\b": "predicts",
    r"\bshown to (the|no) (models?|networks?)\b": "used by",
    r"\bby hand\b": "manually",
    r"\bfalse alarms?\b": "false positive",
    r"\bfalse (stroke|lesion|component)s?\b": "false-positive",
    r"\brule of evidence\b": "evidence rule",
    r"\bgoes on where\b": "resumes",
    r"\bno likelier\b": "not more likely",
    r"\b(is|are) away\b": "missing",
}


def texts() -> Iterator[tuple[str, str]]:
    """Pages and sources whole, but this one; of the tests the names of what they define, too."""
    files = [*ROOT.glob("*.md"), ROOT / "Makefile", *(ROOT / "docs").rglob("*.md")]
    folders = ("src", "benchmarks", "experiments", "tests")
    suffixes = ("py", "j2", "yaml", "md")
    files += [file for folder in folders for suffix in suffixes for file in (ROOT / folder).rglob(f"*.{suffix}")]
    for file in sorted(set(files) - {Path(__file__)}):
        text = file.read_text(encoding="utf-8")
        yield file.relative_to(ROOT).as_posix(), text
        if file.is_relative_to(ROOT / "tests"):
            names = re.findall(r"^\s*(?:def|class) (\w+)", text, flags=re.MULTILINE)
            yield file.relative_to(ROOT).as_posix(), "\n".join(name.replace("_", " ") for name in [file.stem, *names])


def test_no_text_has_a_word_that_the_field_has_a_better_one_for() -> None:
    found = [
        f"{name}: {match[0]!r}: {instead}"
        for name, text in texts()
        for pattern, instead in INSTEAD.items()
        for match in re.finditer(pattern, text, flags=re.IGNORECASE)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "shown to the models",
        "a false alarm",
        "is made anew",
        "how to mend it",
        "The stroke is marked",
        "marked by the model",
    ],
)
def test_such_words_are_found(text: str) -> None:
    assert any(re.search(pattern, text, flags=re.IGNORECASE) for pattern in INSTEAD)
