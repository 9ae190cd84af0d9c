"""Where the network runs: the CPU, CUDA, or whatever else this onnxruntime was built for, asked for by name."""

from __future__ import annotations

import logging
from typing import Any

import onnxruntime as ort

from fvv.errors import ModelError

log = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_SUFFIX = "ExecutionProvider"
_OPTIONS: dict[str, dict[str, Any]] = {CUDA: {"use_tf32": 0}}
"""TF32 keeps ten bits of each factor: masks would differ from the CPU's."""
_OTHER_NAMES = {"directml": "dml"}
Provider = tuple[str, dict[str, Any]]


def offered_devices() -> list[str]:
    """What may be asked for on this machine, in onnxruntime's order of speed: "cuda", "cpu" ..."""
    return [name.removesuffix(_SUFFIX).lower() for name in ort.get_available_providers()]


def choose_providers(device: str) -> list[Provider]:
    """The providers to open a session with, the wanted one first, the CPU for what it cannot do last.

    Args:
        device: "auto": CUDA where onnxruntime offers it, else the CPU; "gpu": the same, and the fall-back is warned
            about; any other name ("cpu", "cuda", "tensorrt", "openvino", "coreml", "dml" ...) must be there.

    Raises:
        ModelError: a device asked for by name that this onnxruntime does not offer.
    """
    offered = dict(zip(offered_devices(), ort.get_available_providers(), strict=True))
    wanted = device.lower()
    if wanted in {"auto", "gpu"}:
        if wanted == "gpu" and "cuda" not in offered:
            log.warning("no GPU: this onnxruntime offers only %s; running on the CPU", ", ".join(offered))
        name = offered.get("cuda", CPU)
    else:
        found = offered.get(_OTHER_NAMES.get(wanted, wanted))
        if found is None:
            raise ModelError(
                f"device {device!r} was asked for; this onnxruntime offers {', '.join(offered)}",
                hint="use one of these (--device), or install the onnxruntime package made for yours",
            )
        name = found
    chosen = [name] if name == CPU else [name, CPU]
    return [(provider, _OPTIONS.get(provider, {})) for provider in chosen]


def runs_on_cpu(device: str) -> bool:
    """Whether `choose_providers` would choose the CPU."""
    return choose_providers(device)[0][0] == CPU


def confirm_provider(device: str, providers: list[Provider], running: str) -> None:
    """Compare the provider that really runs with the one that was wanted.

    Raises:
        ModelError: it was asked for by name and could not start (a driver is missing, the card is in use).
    """
    wanted = providers[0][0]
    if running == wanted:
        return
    if device.lower() not in {"auto", "gpu"}:
        raise ModelError(f"device {device!r} was asked for and could not start", hint="use the CPU: --device cpu")
    log.warning("%s could not start; running on %s", wanted, running)
