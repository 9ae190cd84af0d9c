"""Prints pip constraints that hold every dependency at the lowest version that pyproject.toml allows on this Python."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

BOUND = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9.]+)(?:; python_version >= '3\.([0-9]+)')?")


def lowest(pyproject: str, minor: int = sys.version_info.minor) -> list[str]:
    """`name==version` for each bound of the core and of the extras, on Python 3.`minor`.

    Of two bounds for one dependency the later one holds where its Python is reached.
    """
    project = tomllib.loads(pyproject)["project"]
    listed = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [BOUND.fullmatch(requirement) for requirements in listed for requirement in requirements]
    held = {bound[1]: bound[2] for bound in found if bound and int(bound[3] or 0) <= minor}
    return sorted(f"{name}=={version}" for name, version in held.items())


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    sys.stdout.write("\n".join(lowest(text)) + "\n")
