"""The page in a real browser: images in, an answer out, one sentence for what cannot be read, and no request."""

from __future__ import annotations

import io
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, head, save
from fvv.io.shipped import shipped_or_refuse
from fvv.stages.page import TEMPLATE, page
from web.parity import first_model

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
        if len(files) == 1 and files[0].is_dir():
            self.tab.set_input_files("#folder", str(files[0]))
        else:
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
    page(first_model(path.with_name("first")), path)
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
    save(folder / "adc.nii.gz", images["b0"] * 10)  # An image, not a map.
    with np.errstate(invalid="ignore", divide="ignore"):
        adc = np.nan_to_num(np.log(images["b0"] / images["b1000"]), posinf=0, neginf=0) * 1000
    (folder / "mapped").mkdir()
    save(folder / "mapped" / "adc.nii.gz", adc)
    shutil.copy(folder / "b1000.nii.gz", folder / "mapped")
    return folder


@pytest.fixture(scope="module")
def dicom(files: Path) -> Path:
    """A patient, two of them, one with compressed pixels, as folders and zip files."""
    pydicom = pytest.importorskip("pydicom", reason="no DICOM: the extra `dicom`")
    from dicom_builders import say, write, write_patient  # noqa: PLC0415  (needs pydicom)

    images = {name: array[::-1, ::-1] for name, array in head(np.random.default_rng(1)).items()}
    write_patient(files / "patient", images)
    with zipfile.ZipFile(files / "patient.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (files / "patient").iterdir():
            archive.write(file, f"patient/{file.name}")
    for number in "AB":
        for value, b_value in ((100, 0), (200, 1000)):
            write(files / "two_people" / number, value, b_value, change=say(PatientID=number))
    for value, b_value in ((100, 0), (200, 1000)):
        write(files / "compressed", value, b_value)
    for file in (files / "compressed").rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(file)
    with zipfile.ZipFile(files / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", "no image")
    (files / "cut.zip").write_bytes((files / "patient.zip").read_bytes()[:5000])
    return files


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("notes.txt",), "No NIfTI image and no DICOM among these files"),
        (("text/b0.nii.gz", "b1000.nii.gz"), "b0.nii.gz: not a readable NIfTI image"),
        (("b0.nii.gz", "cut/b1000.nii.gz"), "b1000.nii.gz: cannot be read, it may be damaged or cut short"),
        (("b0.nii.gz",), "Only one image, b0.nii.gz"),
        (("adc.nii.gz", "b1000.nii.gz"), "adc.nii.gz: no ADC map: its median in the head is"),
        (("two_people",), "These files hold images of 2 people with diffusion images, which are never mixed"),
        (("compressed",), "its pixels cannot be decoded: they are compressed"),
        (("empty.zip",), "holds no slices of MR images"),
        (("cut.zip",), "cut.zip: not a readable zip file"),
        (("dwi.nii.gz",), "Only one image, dwi.nii.gz"),
        (("dwi.nii.gz", "b0.nii.gz"), "dwi.nii.gz: 4D with 2 volumes, one was expected (give the .bval file, too)"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(opened: Opened, dicom: Path, names: tuple[str, ...], sentence: str):
    said = opened.answer_to(*(dicom / name for name in names))
    assert sentence in said
    assert "\n" not in said
    assert not opened.seen("#answer")


def test_swapped_images_are_not_assessable_and_give_no_volume(opened, files):
    assert opened.answer_to(files / "swapped/b0.nii.gz", files / "swapped/b1000.nii.gz") == "not assessable"
    assert "not measured" in opened.tab.locator("#numbers").inner_text()
    assert not opened.seen("#save-predictions")
    assert not opened.seen("#viewer-bit-1"), "a box for a stroke mask that nobody measured"
    opened.tab.set_input_files("#files", [files / "b0.nii.gz", files / "b1000.nii.gz"])
    opened.wait(lambda: opened.seen("#choice"))
    assert not opened.seen("#answer"), "an answer beside files of another patient"
    assert not opened.seen("#viewer")


def fvv_of(opened: Opened) -> str:
    return str(opened.tab.locator("#numbers dd").first.inner_text())


def test_dicom_as_a_folder_or_zip_file_has_the_answer_of_its_nifti_files(opened, dicom):
    state = opened.answer_to(dicom / "b0.nii.gz", dicom / "b1000.nii.gz")
    volumes = fvv_of(opened)
    for place in ("patient", "patient.zip"):
        assert opened.answer_to(dicom / place) == state
        assert fvv_of(opened) == volumes
        assert "series 4" in opened.tab.locator("#reasons").inner_text()
    assert "DICOM: patient" in opened.tab.locator("#given").inner_text()


def test_an_adc_map_and_a_stated_b_value(opened, files):
    opened.give(files / "mapped/adc.nii.gz", files / "b1000.nii.gz")
    assert opened.tab.locator("#adc").is_checked()
    opened.tab.fill("#b-value", "-1")
    opened.tab.click("#run")
    assert "b-value: expected a number over 0" in opened.ended()
    opened.tab.fill("#b-value", "1000")
    opened.tab.click("#run")
    opened.wait(lambda: opened.seen("#answer"))
    assert (
        "b0 computed from b1000 and adc.nii.gz, taken to be in 10^-6 mm^2/s"
        in opened.tab.locator("#reasons").inner_text()
    )


def test_own_models_are_checked_used_and_left_again(opened, files, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(shipped_or_refuse(), models)
    opened.tab.locator("summary").click()
    notice = opened.tab.locator("#models").inner_text()
    manifest = json.loads((models / "bundle.json").read_text())
    (models / "bundle.json").write_text(json.dumps({**manifest, "run_name": "ours", "models": manifest["models"][:2]}))
    opened.tab.set_input_files("#bundle", str(models))
    opened.wait(lambda: "Your own models: ours, 2 of them" in opened.tab.locator("#models").inner_text())
    opened.answer_to(files / "b0.nii.gz", files / "b1000.nii.gz")
    assert "ours (2 of 2 models" in opened.tab.locator("#numbers").inner_text()
    (models / "model1.onnx").write_bytes(b"others")
    opened.tab.set_input_files("#bundle", str(models))
    assert "model1.onnx: changed since it was converted" in opened.ended()
    assert not opened.seen("#answer"), "an answer of other models"
    opened.tab.click("#page-models")
    assert opened.tab.locator("#models").inner_text() == notice


def test_the_picture_shows_every_slice_with_stroke_and_the_notice(opened, files, tmp_path):
    image = pytest.importorskip("PIL.Image")
    opened.answer_to(files / "b0.nii.gz", files / "b1000.nii.gz")
    with opened.tab.expect_download() as saving:
        opened.tab.click("#save-synthesis")
    assert saving.value.suggested_filename == "synthesis.png"
    saving.value.save_as(tmp_path / "synthesis.png")
    picture = np.asarray(image.open(io.BytesIO((tmp_path / "synthesis.png").read_bytes())).convert("RGB")).astype(int)
    assert picture.shape[1] in {1400, 2000}
    for colour in ((0x00, 0x9E, 0x73), (0x56, 0xB4, 0xE9)):  # Outlines of brain and stroke.
        assert (np.abs(picture - colour).max(axis=2) < 40).any()


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


def test_files_that_are_read_late_do_not_replace_those_given_after_them(opened, files):
    opened.tab.evaluate(
        """() => {
          const read = Blob.prototype.arrayBuffer;
          Blob.prototype.arrayBuffer = async function () {
            if (this.name === "adc.nii.gz") await new Promise(done => setTimeout(done, 1500));
            if (this.name === "adc.nii.gz") document.documentElement.dataset.late = "true";
            return read.call(this);
          };
        }"""
    )
    opened.tab.set_input_files("#files", [str(files / "mapped" / name) for name in ("adc.nii.gz", "b1000.nii.gz")])
    opened.give(files / "b0.nii.gz", files / "b1000.nii.gz")
    opened.tab.wait_for_selector("html[data-late]")
    opened.tab.wait_for_timeout(300)
    assert opened.tab.locator("#choose-b0 option").all_inner_texts() == ["b0.nii.gz", "b1000.nii.gz"]


def test_images_in_several_folders_are_told_apart_and_not_paired(opened, files):
    for number, name in (("A", "b0.nii.gz"), ("B", "b1000.nii.gz")):  # One image of each of two people.
        (files / "several" / number).mkdir(parents=True)
        shutil.copy(files / name, files / "several" / number)
    opened.give(files / "several")
    paths = [f"several/{path}" for path in ("A/b0.nii.gz", "B/b1000.nii.gz")]
    assert sorted(opened.tab.locator("#choose-b0 option").all_inner_texts()) == paths
    opened.tab.click("#run")
    assert "are the same file" in opened.ended()


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


def test_images_are_seen_only_once_they_are_those_of_the_answer(opened):
    """While the next patient's images are loaded, the viewer still holds those of the patient before."""
    unready = """() => {
        const canvas = document.getElementById("viewer-canvas"), before = canvas.dataset.ready;
        delete canvas.dataset.ready;
        const seen = getComputedStyle(canvas).visibility;
        if (before) canvas.dataset.ready = before;
        return seen;
    }"""
    assert opened.tab.evaluate(unready) == "hidden"


def test_the_warnings_are_always_in_sight(opened):
    opened.tab.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
    notice = opened.tab.locator("header")
    assert notice.bounding_box()["y"] >= 0
    assert "For research use only" in notice.inner_text()
    assert json.loads((shipped_or_refuse() / "bundle.json").read_text())["notice"] in notice.inner_text()


def _luminance(colour: str) -> float:
    """Of a CSS colour, by WCAG 2.2."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_has_the_contrast_of_level_aa(opened, files):
    opened.answer_to(files / "b0.nii.gz", files / "b1000.nii.gz")
    for scheme in ("light", "dark"):
        opened.tab.emulate_media(color_scheme=scheme)
        texts = opened.tab.evaluate(
            """() => [...document.querySelectorAll("p, li, dt, dd, h1, h2, label, button, summary, output, code")]
              .filter(one => one.checkVisibility() && one.textContent.trim())
              .map(one => {
                const paper = of => getComputedStyle(of).backgroundColor;
                let behind = one;
                while (paper(behind) === "rgba(0, 0, 0, 0)" && behind.parentElement) behind = behind.parentElement;
                return [one.textContent.trim().slice(0, 40), getComputedStyle(one).color, paper(behind)];
              })"""
        )
        assert {opened.tab.locator("#state").inner_text(), "Cut-off"} <= {text for text, _, _ in texts}
        for text, ink, paper in texts:
            low, high = sorted((_luminance(ink), _luminance(paper)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, text, ink, paper)
    opened.tab.emulate_media(color_scheme=None)


def test_every_control_has_a_name(opened):
    nameless = opened.tab.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas")]
          .filter(one => !(one.textContent.trim() || one.labels?.length || one.ariaLabel)).map(one => one.id)"""
    )
    assert nameless == []


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(opened, width):
    opened.tab.set_viewport_size({"width": width, "height": 800})
    assert opened.tab.evaluate("() => document.documentElement.scrollWidth") <= width
