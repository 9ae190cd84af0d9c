"""What PyPI shows of a release: links of the README that lead somewhere, and addresses of the repository."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = ("https://git.example/lab/fvv", "v1.2.3")

_spec = importlib.util.spec_from_file_location("publishable", ROOT / ".github" / "publishable.py")
assert _spec
assert _spec.loader
publishable = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(publishable)


def test_every_link_of_the_readme_is_absolute_and_was_to_a_file() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    changed = re.findall(r"\]\(([^)]+)\)", publishable.absolute_links(text, *REPOSITORY))
    assert len(links) == len(changed) > 20
    for before, after in zip(links, changed, strict=True):
        assert after.startswith("https://")
        assert before == after or (ROOT / before.partition("#")[0]).exists(), before


def test_a_picture_links_to_its_content() -> None:
    assert publishable.absolute_links("![x](a/b.png) [y](c.md)", *REPOSITORY) == (
        "![x](https://git.example/lab/fvv/raw/v1.2.3/a/b.png) [y](https://git.example/lab/fvv/blob/v1.2.3/c.md)"
    )


def test_the_addresses_are_added() -> None:
    changed = publishable.with_urls((ROOT / "pyproject.toml").read_text(encoding="utf-8"), *REPOSITORY)
    assert set(tomllib.loads(changed)["project"]["urls"]) == {
        "Repository",
        "Issues",
        "Documentation",
        "Changelog",
        "Paper",
    }


def test_the_citation_has_the_version_of_the_package() -> None:
    (version,) = re.findall(r'^__version__ = "(.*)"', (ROOT / "src/fvv/__init__.py").read_text(), flags=re.MULTILINE)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
