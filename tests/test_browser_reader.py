"""The page of predictions in a real browser: one patient at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="no Playwright: make browser")

from fvv.analysis.prediction_pages import Entry, prediction_pages
from fvv.analysis.viewer import page_volume
from fvv.analysis.windows import reader_images
from fvv.data import Case, Decision, DecisionState, Prediction, Volume
from fvv.imaging.lesions import stroke_lesions
from fvv.io.nifti import write_volume
from test_browser import AFFINE, CHROMIUM, SLICES, SWITCH, browsed

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: make browser")


def reader_page(folder: Path) -> Path:
    """The page of predictions: two patients with the lesion on the left, and one without images."""
    i, j, k = np.ogrid[:40, :44, :SLICES]
    brain = np.broadcast_to((i - 20) ** 2 + (j - 22) ** 2 < 16**2, (40, 44, SLICES))
    stroke = (i - 12) ** 2 + (j - 20) ** 2 + 4 * (k - 3) ** 2 < 25
    entries = []
    for seed, name in enumerate(("anna", "berta", "carla")):
        grey = (100 * brain + np.random.default_rng(seed).integers(0, 40, brain.shape)).astype(np.uint8)
        case = Case(name, Volume(grey, AFFINE), Volume(grey + 80 * stroke, AFFINE))
        decision = Decision(DecisionState.MISMATCH_LIKELY, 0.5)
        found = Prediction(name, decision, 1, 0.1, 9000, 50, 1.0, brain, stroke, stroke.astype(np.uint8))
        lesions = stroke_lesions(brain, stroke, stroke.astype(np.uint8), 1, AFFINE)
        array, affine = page_volume(reader_images(case, found), AFFINE, found, slice_axis=2)
        write_volume(folder / f"{name}.nii.gz", array, affine)
        viewer = (folder / f"{name}.nii.gz").read_bytes() if name != "carla" else b""
        entries.append(Entry(found, {}, lesions, viewer))
    (pieces,) = prediction_pages(entries, [], {})
    path = folder / "report.html"
    path.write_text("".join(pieces), encoding="utf-8")
    return path


def test_the_readers_page_never_shows_images_of_two_patients_together(tmp_path):
    with browsed(reader_page(tmp_path)) as view:
        select, canvas = view.page.locator("#viewer-patient"), view.page.locator("#viewer-canvas")
        assert view.page.locator("article:visible td.text").first.inner_text() == "left"
        alone = {}
        for name in ("patient-1", "patient-0"):
            select.select_option(name)
            view.wait(lambda name=name: canvas.get_attribute("data-patient") == name, 30)
            alone[name] = view.picture()
        view.ask(SWITCH.format(names=json.dumps(["patient-1", "patient-0", "patient-1"])))
        view.wait(lambda: canvas.get_attribute("data-patient") == "patient-1", 30)
        assert view.picture() == alone["patient-1"] != alone["patient-0"]
        view.ask(SWITCH.format(names=json.dumps(["patient-0", "patient-2"])))
        view.wait(lambda: "No images" in view.page.locator("#viewer-about").inner_text(), 30)
        assert view.picture() not in alone.values()
        view.page.locator("#viewer-slice").fill("3")
