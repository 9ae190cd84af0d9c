"""One HTML file that predicts in a browser, with a bundle of models inside."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from fvv import __version__
from fvv.data import Failure
from fvv.errors import ConfigError, OutputExistsError
from fvv.io.atomic import write_text
from fvv.io.bundle import ModelBundle

TEMPLATE = Path(str(files("fvv"))) / "page" / "template.html.gz"
"""The page without models, which `make web` builds (see web/ in the sources)."""
_PLACE = "<!--BUNDLE-->"
_IN_THE_PAGE = {"run_name", "notice", "profile", "calibration", "intensity_range", "postprocess", "schema_version"}
"""Of the manifest; not the hashed persons that the models were trained on."""


@dataclass(frozen=True, slots=True)
class PageResult:
    """What was written."""

    file: Path
    models: str
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """Where the page is and what it holds."""
        size = self.file.stat().st_size / 1e6
        return f"{self.file} ({size:.1f} MB) predicts in a browser with {self.models}; nothing is uploaded"


def page(models: str | Path, output: str | Path, *, overwrite: bool = False) -> PageResult:
    """Write the page.

    Args:
        models: a bundle, or a folder of models in the published format.
        output: the HTML file.
        overwrite: replace a file that is there.

    Raises:
        ConfigError: this installation holds no page, or the browser cannot make the models' brain masks.
        ModelError: no usable models.
        OutputExistsError: the file is there.
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise OutputExistsError("is already there", file=output, hint="--overwrite replaces it")
    if not TEMPLATE.is_file():
        raise ConfigError(
            "this installation holds no page for browsers",
            hint="in the sources of fvv, run `make web`, which needs Node 20.19 or later, then install again",
        )
    bundle = ModelBundle.open(Path(models))
    if bundle.profile.mask_method not in {"robust", "otsu"}:
        message = (
            f"the models ask for brain masks by {bundle.profile.mask_method!r}; in a browser there are robust and otsu"
        )
        raise ConfigError(message, hint="convert them with such a profile")
    template = gzip.decompress(TEMPLATE.read_bytes()).decode("utf-8")
    script = f'<script type="application/json" id="fvv-bundle">{_content(bundle)}</script>'
    write_text(output, template.replace(_PLACE, script, 1))
    return PageResult(output, bundle.manifest.description(len(bundle.models)))


def _content(bundle: ModelBundle) -> str:
    manifest = bundle.manifest.model_dump(mode="json", include=_IN_THE_PAGE)
    manifest["models"] = [{"file": model.file, "sha256": model.sha256} for model in bundle.models]
    models = {
        model.file: base64.b64encode((bundle.path / model.file).read_bytes()).decode("ascii") for model in bundle.models
    }
    content = json.dumps({"software": f"fvv {__version__}", "manifest": manifest, "models": models})
    return content.replace("<", "\\u003c")
