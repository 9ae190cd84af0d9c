"""Make README.md and pyproject.toml fit for PyPI, where relative links lead nowhere.

    python .github/publishable.py REPOSITORY_URL TAG

The sources name no address of the repository: a release takes it from where it is built.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def absolute_links(markdown: str, repository: str, tag: str) -> str:
    """Relative links lead to the files of the tag; pictures to their content."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1] else "blob"
        return f"{link[1]}{link[2]}({repository}/{kind}/{tag}/{link[3]})"

    return re.sub(r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)", absolute, markdown)


def with_urls(pyproject: str, repository: str, tag: str) -> str:
    """pyproject.toml with the addresses of this repository beside those that it has."""
    lines = [
        "[project.urls]",
        f'Repository = "{repository}"',
        f'Issues = "{repository}/issues"',
        f'Documentation = "{repository}/blob/{tag}/README.md"',
        f'Changelog = "{repository}/blob/{tag}/CHANGELOG.md"',
    ]
    if pyproject.count(lines[0]) != 1:
        raise SystemExit("pyproject.toml has no section [project.urls]")
    return pyproject.replace(lines[0], "\n".join(lines))


if __name__ == "__main__":
    for file, change in ((Path("README.md"), absolute_links), (Path("pyproject.toml"), with_urls)):
        file.write_text(change(file.read_text(encoding="utf-8"), *sys.argv[1:3]), encoding="utf-8")
