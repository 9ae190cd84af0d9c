"""The page in a real browser: images in, an answer out, one sentence for what cannot be read, and no request."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, head, save
from fvv.io.shipped import shipped_or_refuse
from fvv.stages.page import TEMPLATE, page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: make browser")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: make browser"),
    pytest.mark.skipif(not TEMPLATE.exists(), reason="no page: make web"),
]


class Opened:
    """The page as opened, and all it said and asked for meanwhile."""

    def __init__(self, tab: Any, path: Path) -> None:
        self.tab = tab
        self.errors: list[str] = []
        self.requests: list[str] = []
        tab.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]")

    def wait(self, true: Callable[[], bool], seconds: float = 300.0) -> None:
        limit = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < limit, self.errors
            self.tab.wait_for_timeout(200)

    def give(self, *files: Path) -> None:
        self.tab.set_input_files("#files", [str(file) for file in files])
        self.wait(lambda: self.seen("#choice") or self.seen("#refusal"))

    def ended(self) -> str:
        """The answer, or why there is none."""
        self.wait(lambda: self.seen("#answer") or self.seen("#refusal"))
        return str(self.tab.locator("#state" if self.seen("#answer") else "#refusal").inner_text())

    def answer_to(self, *files: Path) -> str:
        self.give(*files)
        if self.seen("#choice"):
            self.tab.click("#run")
        return self.ended()

    def seen(self, where: str) -> bool:
        return bool(self.tab.locator(where).is_visible())

    def picture(self) -> bytes:
        self.tab.wait_for_timeout(400)
        return bytes(self.tab.locator("#viewer-canvas").screenshot())


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    path = tmp_path_factory.mktemp("page") / "fvv.html"
    page(shipped_or_refuse(), path)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        view = Opened(browser.new_page(viewport={"width": 1400, "height": 900}, accept_downloads=True), path)
        yield view
        # Whatever the tests did: no error, and nobody but the page itself was asked for anything.
        assert view.errors == []
        assert {url for url in view.requests if not url.startswith(("data:", "blob:"))} == {path.as_uri()}
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    images = head(np.random.default_rng(1))
    for name in ("b0", "b1000"):
        save(folder / f"{name}.nii.gz", images[name])
    (folder / "text").mkdir()
    (folder / "text" / "b0.nii.gz").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    (folder / "cut").mkdir()
    packed = (folder / "b1000.nii.gz").read_bytes()
    (folder / "cut" / "b1000.nii.gz").write_bytes(packed[: len(packed) // 2])
    both = np.stack([images["b0"], images["b1000"]], axis=3).astype(np.float32)
    nib.save(nib.Nifti1Image(both, AFFINE), folder / "dwi.nii.gz")
    (folder / "dwi.bval").write_text("0 1000")
    (folder / "swapped").mkdir()
    shutil.copy(folder / "b0.nii.gz", folder / "swapped" / "b1000.nii.gz")
    shutil.copy(folder / "b1000.nii.gz", folder / "swapped" / "b0.nii.gz")
    return folder


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("notes.txt",), "No NIfTI image among these files"),
        (("text/b0.nii.gz", "b1000.nii.gz"), "b0.nii.gz: not a readable NIfTI image"),
        (("b0.nii.gz", "cut/b1000.nii.gz"), "b1000.nii.gz: cannot be read, it may be damaged or cut short"),
        (("b0.nii.gz",), "Only one image, b0.nii.gz"),
        (("dwi.nii.gz",), "Only one image, dwi.nii.gz"),
        (("dwi.nii.gz", "b0.nii.gz"), "dwi.nii.gz: 4D with 2 volumes, one was expected (give the .bval file, too)"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(opened: Opened, files: Path, names: tuple[str, ...], sentence: str):
    said = opened.answer_to(*(files / name for name in names))
    assert sentence in said
    assert "\n" not in said
    assert not opened.seen("#answer")


def test_swapped_images_are_not_assessable_and_give_no_volume(opened, files):
    assert opened.answer_to(files / "swapped/b0.nii.gz", files / "swapped/b1000.nii.gz") == "not assessable"
    assert "not measured" in opened.tab.locator("#numbers").inner_text()
    assert not opened.seen("#save-predictions")
    opened.tab.set_input_files("#files", [files / "b0.nii.gz", files / "b1000.nii.gz"])
    opened.wait(lambda: opened.seen("#choice"))
    assert not opened.seen("#answer"), "an answer beside files of another patient"
    assert not opened.seen("#viewer")


def test_a_dropped_file_with_b_values_is_both_images(opened, files):
    drop = """async ([content, bvals]) => {
      const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "dwi.nii.gz"));
      transfer.items.add(new File([bvals], "dwi.bval"));
      document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }"""
    import base64  # noqa: PLC0415

    content = base64.b64encode((files / "dwi.nii.gz").read_bytes()).decode()
    opened.tab.evaluate(drop, [content, "0 1000"])
    opened.wait(lambda: opened.tab.locator("#choose-b1000").inner_text() == "dwi.nii.gz")
    opened.tab.click("#run")
    opened.wait(lambda: opened.seen("#progress"))
    opened.tab.click("#cancel")
    assert opened.ended() == "Cancelled."


def test_the_example_is_answered_shown_and_saved(opened, tmp_path):
    opened.tab.click("#example")
    state = opened.ended()
    assert state in {"mismatch likely", "mismatch unlikely"}
    opened.tab.wait_for_selector("#viewer-canvas[data-ready]")
    marked = opened.picture()
    for bit in (1, 2):
        opened.tab.locator(f"#viewer-bit-{bit}").uncheck()
    bare = opened.picture()
    assert bare != marked
    opened.tab.locator("#viewer-image").select_option("b0")
    assert opened.picture() != bare
    before = opened.tab.locator("#viewer-place").inner_text()
    opened.tab.locator("#viewer-canvas").focus()
    opened.tab.keyboard.press("ArrowUp")
    assert opened.tab.locator("#viewer-place").inner_text() != before

    # The answer follows the slider at once.
    for value, expected in (("0.05", "mismatch unlikely"), ("3", "mismatch likely")):
        opened.tab.locator("#cutoff").fill(value)
        assert opened.tab.locator("#state").inner_text() == expected
    for button, name in (("#save-predictions", "predictions.nii.gz"), ("#save-results", "results.json")):
        with opened.tab.expect_download() as saving:
            opened.tab.click(button)
        assert saving.value.suggested_filename == name
        saving.value.save_as(tmp_path / name)
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["decision"], results["cutoff_ml"]) == ("mismatch likely", 3)
    masks = np.asarray(nib.load(tmp_path / "predictions.nii.gz").dataobj)
    assert masks.shape[3] == 3
    assert masks[..., 1].max() == results["n_models"]


def test_the_warnings_are_always_in_sight(opened):
    opened.tab.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
    notice = opened.tab.locator("header")
    assert notice.bounding_box()["y"] >= 0
    assert "For research use only" in notice.inner_text()
    assert "simulated patients only" in notice.inner_text()


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(opened, width):
    opened.tab.set_viewport_size({"width": width, "height": 800})
    assert opened.tab.evaluate("() => document.documentElement.scrollWidth") <= width
