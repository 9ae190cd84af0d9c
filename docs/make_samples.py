"""Make what the pages show of a run, into build/docs: a page of predictions, an evaluation report, executed notebooks.

`make docs` runs it before mkdocs. All of it comes from simulated patients and the model in the package, without
network; what is there already is kept. With `--no-notebooks` the notebooks stay as they are stored.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from fvv.cli import main as fvv

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "docs"
PAGE = """# Samples

Pages that `fvv` wrote about {cases} simulated patients, which the model in the package has not seen.
They are here to be looked at; so few patients measure nothing.

* [Predictions](prediction.html): what `fvv predict` writes for new patients.
* [Evaluation report](evaluation.html): what `fvv evaluate` writes for patients with reference masks, with a viewer of
  the slices.

![The synthesis of one patient](synthesis.png)

`synthesis.png` of one of them: the predicted stroke in blue, its FLAIR-visible part in orange.
"""
CASES = 6
# A cohort of its own: neither the training (seed 0) nor the tests of the model's card come from this seed.
SEED = 70001


def samples() -> None:
    """The two pages and a picture, made by the command line."""
    patients, predicted, evaluated = (str(BUILD / name) for name in ("patients", "predicted", "evaluated"))
    pages = BUILD / "samples"
    settings = ("--set", "simulate.write_mask=false", "--seed", str(SEED), "--cases", str(CASES))
    run("simulate", *settings, "-o", patients, "--overwrite")
    run("predict", patients, "-o", predicted, "--device", "cpu", "--overwrite")
    run("evaluate", "--external", patients, "-o", evaluated, "--overwrite")
    pages.mkdir(exist_ok=True)
    shutil.copy(BUILD / "predicted" / "report.html", pages / "prediction.html")
    shutil.copy(BUILD / "evaluated" / "report.html", pages / "evaluation.html")
    most_slices = max((BUILD / "predicted").glob("*/synthesis.png"), key=lambda picture: picture.stat().st_size)
    shutil.copy(most_slices, pages)
    (pages / "index.md").write_text(PAGE.format(cases=CASES), encoding="utf-8")


def run(*words: str) -> None:
    """A command; its failure ends this program with the same exit code."""
    if code := fvv(list(words)):
        sys.exit(code)


def notebooks() -> None:
    """Those of docs/notebooks with their outputs, each executed in a folder of its own."""
    import nbformat  # noqa: PLC0415 - only here
    from nbclient import NotebookClient  # noqa: PLC0415

    pages = BUILD / "notebooks"
    for stored in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        done = pages / stored.name
        if done.is_file() and done.stat().st_mtime > stored.stat().st_mtime:
            continue
        folder = BUILD / "runs" / stored.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        notebook = nbformat.read(stored, as_version=4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
        pages.mkdir(exist_ok=True)
        nbformat.write(notebook, done)
        print(f"executed {stored.name}")


if __name__ == "__main__":
    samples()
    if "--no-notebooks" not in sys.argv:
        notebooks()
