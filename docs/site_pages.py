"""What `mkdocs build` needs beyond the Markdown of docs/ (a hook, named in mkdocs.yml).

The Markdown is written to be read in the repository. This hook orders it for the site, adds files outside docs/ as
pages (README, changelog, notes of experiments), changes links to them, and makes pages from the code (all settings, the
Python names), from docs/notebooks and from the samples that `docs/make_samples.py` left in build/docs.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.utils import nest_paths

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "build" / "docs"
SECTIONS = ("tutorial", "how-to", "notebooks", "samples", "reference", "explanation", "project")
# Files of the repository outside docs/ that are pages of the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "LICENSE": "project/LICENSE.txt",
    "CITATION.cff": "project/CITATION.cff",
    "configs/default.yaml": "reference/all-settings.md",
} | {
    f"experiments/notes/{page.name}": f"project/notes/{page.name}"
    for page in sorted((ROOT / "experiments" / "notes").glob("*.md"))
}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Pages made from other files, then all in order."""
    made: dict[str, str | bytes] = {
        place: (ROOT / source).read_text(encoding="utf-8")
        for source, place in OUTSIDE.items()
        if not source.endswith(".yaml")
    }
    made["reference/all-settings.md"] = all_settings()
    made["reference/python-api.md"] = python_api()
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        run = SAMPLES / "notebooks" / notebook.name
        made |= notebook_page(run if run.is_file() else notebook)
    for sample in sorted((SAMPLES / "samples").glob("*")):
        made[f"samples/{sample.name}"] = sample.read_bytes()
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    pages = sorted(file.src_uri for file in files.documentation_pages() if file.src_uri != "index.md")
    config.nav = [{"Home": "index.md"}, *nest_paths(sorted(pages, key=_rank))]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as the site has them: a file outside docs/ is the page made of it."""
    here = page.file.src_uri
    source = next(
        (source for source, place in OUTSIDE.items() if place == here and source.endswith(".md")), f"docs/{here}"
    )

    def changed(link: re.Match[str]) -> str:
        start, target, anchor, end = link.groups()
        meant = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = OUTSIDE.get(meant, meant.removeprefix("docs/"))
        if not here.startswith("notebooks/"):
            place = place.replace(".ipynb", ".md")
        return f"{start}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor or ''}{end}"

    return LINK.sub(changed, markdown)


def all_settings() -> str:
    """default.yaml, a heading for each section."""
    text = (ROOT / "src" / "fvv" / "configs" / "default.yaml").read_text(encoding="utf-8")
    head, *sections = text.strip().split("\n\n")
    intro = " ".join(line.lstrip("# ") for line in head.splitlines())
    lines = ["# All settings", "", intro, "", "How settings are given: [settings](configuration.md)."]
    for section in sections:
        (name,) = re.findall(r"^(\w+):", section, flags=re.MULTILINE)[:1]
        lines += ["", f"## {name}", "", "```yaml", section, "```"]
    return "\n".join(lines) + "\n"


def python_api() -> str:
    """Every public name of the package, for mkdocstrings."""
    lines = ["# Python API", "", "The names of `import fvv`. What is not listed here is internal and may change."]
    for name, module in sorted(public_names().items(), key=lambda item: (item[0][0].isupper(), item[0])):
        lines += ["", f"::: {module}.{name}"]
    return "\n".join(lines) + "\n"


def public_names() -> dict[str, str]:
    """The module of each public name, read from the source of `fvv/__init__.py` without importing it."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse((ROOT / "src" / "fvv" / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fvv"):
            found |= {alias.asname or alias.name: str(node.module) for alias in node.names}
        elif isinstance(node, ast.Dict):  # name: module
            names, modules = ([getattr(word, "value", None) for word in side] for side in (node.keys, node.values))
            found |= {
                name: module for name, module in zip(names, modules, strict=True) if str(module).startswith("fvv.")
            }
    return found


def notebook_page(notebook: Path) -> dict[str, str | bytes]:
    """A notebook as Markdown, and the pictures of its outputs where it was executed."""
    place = f"notebooks/{notebook.stem}"
    made: dict[str, str | bytes] = {}
    lines: list[str] = []
    for index, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        text = "".join(cell["source"])
        lines += [text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```", ""]
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                made[f"{place}-{index}.png"] = b64decode(data["image/png"])
                lines += [f"![output]({notebook.stem}-{index}.png)", ""]
            elif shown := "".join(output.get("text", data.get("text/plain", ""))):
                lines += [f"```text\n{shown.rstrip()}\n```", ""]
    lines += [f"The notebook itself: [{notebook.name}]({notebook.name})"]
    return made | {f"{place}.md": "\n".join(lines) + "\n"}


def _rank(page: str) -> tuple[int, bool, str]:
    top = page.partition("/")[0]
    return (SECTIONS.index(top) if top in SECTIONS else len(SECTIONS)), not page.endswith("index.md"), page
