"""Models that are used give here what they gave where they were converted, or they are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import onnxruntime as ort

from fvv.config import Precision
from fvv.errors import ModelError
from fvv.inference.golden import GivesLogits, difference, golden_output
from fvv.io.bundle import BundleFile, ModelBundle, ModelEntry
from fvv.io.checked import is_checked, machine, remember_checked
from fvv.io.golden import read_golden


class Opened(GivesLogits, Protocol):
    """Models of a bundle, as `OnnxEnsemble` opens them."""

    @property
    def provider(self) -> str:
        """Where they run."""

    @property
    def precision(self) -> Precision:
        """Of their weights."""


def confirm_reference(
    opened: Opened, bundle: ModelBundle, models: Sequence[ModelEntry], forms: Sequence[BundleFile]
) -> None:
    """Compare the output of models with the bundle's reference output.

    It is done once for the same models, processor, provider and onnxruntime, and remembered in the user's cache folder.
    Where a bundle has no reference output (published format), only what each run gives is checked.

    Args:
        opened: the models, opened.
        bundle: holds them.
        models: their entries, in the order of the output.
        forms: the files that were opened: one for each, or one graph for all.

    Raises:
        ModelError: an output differs by more than the bounds of `fvv.inference.golden`, or the reference is damaged.
    """
    golden = bundle.manifest.golden
    if golden is None:
        return
    about = [*machine(opened.provider), ort.__version__, opened.provider, opened.precision, golden.sha256]
    about += [form.sha256 for form in forms]
    if is_checked(about):
        return
    images, outputs = read_golden(bundle.path / golden.file, len(bundle.models))
    kept = outputs.get(opened.precision)
    if kept is None:
        return
    found = golden_output(opened, images)
    for number, model in enumerate(models):
        place = bundle.models.index(model)
        against = difference(found[number : number + 1], kept[place : place + 1])
        if not against.accepted(opened.precision):
            raise ModelError(
                f"does not give its reference output on this machine: {against.told(opened.precision)}",
                file=bundle.path / forms[number if len(forms) > 1 else 0].file,
                hint=_hint(bundle, opened.precision),
            )
    remember_checked(about)


def _hint(bundle: ModelBundle, precision: Precision) -> str:
    see = f"`fvv doctor -m {bundle.path}` compares every model"
    if precision != "fp32" and "fp32" in bundle.precisions:
        return f"use --precision fp32; {see}"
    return f"{see}; another version of onnxruntime, or --device cpu, may give it"
