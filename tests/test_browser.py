"""The report in a real browser: nothing asked for, nothing broken, everything works (`make browser` installs one)."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cohorts import cohort
from fvv.analysis.figures import figure_png
from fvv.analysis.marker import marker_data
from fvv.analysis.plots import evaluation_plots
from fvv.analysis.report import evaluation_page
from fvv.analysis.summary import summarise_cohort
from fvv.analysis.tables import all_tables
from fvv.analysis.viewer import viewer_volumes
from fvv.config import EvaluateConfig
from fvv.data import Channel
from fvv.io.nifti import write_volume
from fvv.schemas.summary import Summary

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: make browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: make browser")

PATIENTS = ("mismatch0", "other3")
SLICES = 8
AFFINE = np.diag([4.0, 4.0, 8.0, 1.0])


def images(folder: Path, seed: int) -> dict[str, bytes]:
    """A bright ball with a lesion, as the evaluation keeps it for the viewer."""
    i, j, k = np.ogrid[:40, :44, :SLICES]
    brain = (i - 20) ** 2 + (j - 22) ** 2 < 16**2
    masks = {
        Channel.BRAIN: np.broadcast_to(brain, (40, 44, SLICES)).copy(),
        Channel.STROKE: ((i - 14) ** 2 + (j - 20) ** 2 + 4 * (k - 3) ** 2) < 36,
        Channel.FLAIR_VISIBLE: ((i - 14) ** 2 + (j - 20) ** 2 + 4 * (k - 3) ** 2) < 9,
    }
    grey = (100 * masks[Channel.BRAIN] + np.random.default_rng(seed).integers(0, 40, (40, 44, SLICES))).astype(np.uint8)
    predicted = {channel: np.roll(mask, 6, axis=1) for channel, mask in masks.items()}
    volumes = viewer_volumes(grey, AFFINE, masks, predicted, slice_axis=2)
    files = {}
    for name, volume in volumes.items():
        path = folder / f"{seed}_{name}.nii.gz"
        write_volume(path, volume.array, volume.affine)
        files[name] = path.read_bytes()
    return files


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it; FVV_REPORT names another to test, such as the demo's."""
    if os.environ.get("FVV_REPORT"):
        return Path(os.environ["FVV_REPORT"]).resolve()
    folder = tmp_path_factory.mktemp("page")
    patients = cohort()
    data, config = marker_data(patients, 0.2), EvaluateConfig(bootstrap_samples=20)
    findings = summarise_cohort(patients, data, config)
    plots = evaluation_plots(patients, data, findings)
    summary = Summary(
        **dict(findings), evaluation="out-of-fold", counts={"evaluated": len(patients)}, comparison=None,
        run={"models": "none"}, settings=config, models_sha256={}, sources={}, cohort="unknown", failures=(),
    )  # fmt: skip
    text = evaluation_page(
        summary,
        patients,
        data,
        tables=all_tables(findings, None),
        plots={plot.caption: figure_png(plot.figure, dpi=60) for plot in plots},
        pictures={},
        viewer={name: images(folder, seed) for seed, name in enumerate(PATIENTS)},
        methods=["None."],
    )
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


class Opened:
    """The page as opened, and all it said and asked for meanwhile."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())
        self._devtools = page.context.new_cdp_session(page)

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript through the developer tools: the page's own policy forbids it to evaluate text."""
        answer = self._devtools.send("Runtime.evaluate", {"expression": f"JSON.stringify({expression})"})
        return json.loads(answer["result"]["value"])

    def wait(self, true: Callable[[], bool], seconds: float = 120.0) -> None:
        limit = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < limit, self.errors
            self.page.wait_for_timeout(100)

    def picture(self) -> bytes:
        """The viewer's canvas as it is painted."""
        self.page.wait_for_timeout(400)
        return self.page.locator("#viewer-canvas").screenshot()


@contextmanager
def browsed(report: Path) -> Iterator[Opened]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        view = Opened(page, report)
        view.wait(lambda: page.locator("#viewer-canvas").get_attribute("data-ready") is not None)
        yield view
        # Whatever the tests did: still no error, and nobody but the page itself was asked for anything.
        assert view.errors == []
        assert {url for url in view.requests if not url.startswith(("data:", "blob:"))} == {report.as_uri()}
        browser.close()


@pytest.fixture(scope="module")
def opened(report: Path) -> Iterator[Opened]:
    with browsed(report) as view:
        yield view


def test_every_plot_is_drawn(opened):
    widths = opened.ask("[...document.querySelectorAll('.plots img')].map(image => image.naturalWidth)")
    assert len(widths) >= 8
    assert min(widths) > 100


def test_the_table_of_patients_sorts_both_ways(opened):
    # The Dice of the stroke stands in the last but one column; an empty cell always comes last.
    def column() -> list[str]:
        rows = "[...[...document.querySelectorAll('table.sortable')].at(-1).tBodies[0].rows]"
        values = opened.ask(f"{rows}.map(row => [...row.cells].at(-2).dataset.value)")
        return [value for value in values if value]

    head = opened.page.locator("table.sortable").last.locator("th").nth(-2)
    head.click()
    rising = [float(value) for value in column()]
    assert rising == sorted(rising)
    head.click()
    assert [float(value) for value in column()] == rising[::-1]


def test_the_viewer_shows_slices_and_scrolls(opened):
    assert opened.page.locator("#viewer-canvas").get_attribute("data-ready") == "true"
    place = opened.page.locator("#viewer-place")
    before, first = place.inner_text(), opened.picture()
    opened.page.locator("#viewer-canvas").hover()
    opened.page.mouse.wheel(0, 120)
    opened.wait(lambda: place.inner_text() != before, 20)
    assert opened.picture() != first
    opened.page.locator("#viewer-slice").fill("2")
    opened.wait(lambda: place.inner_text().startswith("3 of"), 20)


@pytest.mark.parametrize("bit", [0, 1, 2])
def test_each_overlay_goes_and_comes(opened, bit):
    for other in range(3):
        opened.page.locator(f"#viewer input[data-bit='{other}']").uncheck()
    opened.page.locator("#viewer-masks").select_option("predicted")
    bare = opened.picture()
    box = opened.page.locator(f"#viewer input[data-bit='{bit}']")
    box.check()
    marked = opened.picture()
    box.uncheck()
    assert opened.picture() == bare
    if bit == 0 or not os.environ.get("FVV_REPORT"):  # On a real page the slice may hold no lesion, but a brain.
        assert marked != bare


def test_reference_and_prediction_are_switched(opened):
    opened.page.locator("#viewer input[data-bit='0']").check()
    pictures = {}
    for masks in ("reference", "predicted", ""):
        opened.page.locator("#viewer-masks").select_option(masks)
        pictures[masks] = opened.picture()
    assert len(set(pictures.values())) == 3


def test_another_patient_can_be_opened(opened):
    names = opened.page.locator("#viewer-patient option").all_inner_texts()
    select, about = opened.page.locator("#viewer-patient"), opened.page.locator("#viewer-about")
    other = next(name for name in names if not about.inner_text().startswith(f"{name}:"))
    before = opened.picture()
    select.select_option(other)
    opened.wait(lambda: about.inner_text().startswith(f"{other}:"), 30)
    assert opened.picture() != before


SWITCH = """(() => {{
  const list = document.getElementById("viewer-patient");
  for (const name of {names}) {{ list.value = name; list.dispatchEvent(new Event("change")); }}
  return 0;
}})()"""


def test_images_of_two_patients_are_never_shown_together_however_fast_they_are_switched(opened):
    names = opened.ask('[...document.querySelectorAll("#viewer-patient option")].map(one => one.value)')
    select, about = opened.page.locator("#viewer-patient"), opened.page.locator("#viewer-about")
    alone = {}
    for name in names:
        select.select_option(name)
        opened.wait(lambda name=name: about.inner_text().startswith(f"{name}:"), 30)
        alone[name] = opened.picture()
    first, second = names
    opened.ask(SWITCH.format(names=json.dumps([first, second, first])))
    opened.wait(lambda: about.inner_text().startswith(f"{first}:"), 30)
    assert opened.picture() == alone[first] != alone[second]
