"""Weights that a training starts from, of a checkpoint or of a bundle, and on whom they were trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from torch import nn

from fvv.config import NetworkConfig, PreprocessingProfile, TrainConfig
from fvv.data import Role, hashed_ids
from fvv.errors import ModelError
from fvv.io.bundle import ModelBundle, read_golden
from fvv.io.initial import InitialFiles
from fvv.io.runs import fold_title
from fvv.io.store import CaseStore
from fvv.schemas.bundle import ModelEntry
from fvv.schemas.checkpoint import Parent
from fvv.training.checkpoint import read_checkpoint
from fvv.training.dataset import Batch
from fvv.training.module import SegmentationModule
from fvv.training.norms import centre_norms, changed_images
from fvv.training.rebuild import rebuild, trained_resolution

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """A network to start from.

    Attributes:
        network: in evaluation mode, on the CPU, at the resolution it was trained at.
        parent: which weights these are.
        profile: the preprocessing they were trained with.
        person_ids, image_ids: hashed, of those that trained or selected them.
        selection_ids: those of them whose scores chose an epoch, and on whom no weight was trained.
        normed: whether the batch norms have statistics of their inputs; an ONNX model keeps none.
    """

    network: nn.Module
    parent: Parent
    profile: PreprocessingProfile
    person_ids: tuple[str, ...]
    image_ids: tuple[str, ...]
    selection_ids: tuple[str, ...]
    normed: bool


def initial_weights(store: CaseStore, fold: int, config: TrainConfig) -> InitialWeights:
    """Read the weights that a fold starts from (`train.init`).

    Weights of another resolution have the same shapes, and are taken.

    Raises:
        ModelError: they cannot be read, are of another network, do not say on whom they were trained, or were trained
            on somebody who is to select or to test in this fold.
    """
    files = InitialFiles.find(config.init)
    if files.bundle is None:
        found = _of_checkpoint(files, config.network)
    else:
        found = _of_model(files.bundle, files.model_of(fold), config.network)
    _refuse_seen(found, store, fold)
    if found.profile != store.profile:
        log.warning(
            "the weights of %s were trained with profile %s, the store has %s: they must learn other images first",
            found.parent.name,
            found.profile.name,
            store.profile.name,
        )
    log.info("fold %s starts from %s (SHA-256 %s...)", fold_title(fold), found.parent.name, found.parent.sha256[:16])
    return found


def start_from(module: SegmentationModule, initial: InitialWeights, batches: Iterable[Batch]) -> None:
    """Give a training the weights to start from; weights without batch-norm statistics get those of training slabs.

    Args:
        module: of the run, untrained, on the CPU.
        batches: of the training set.

    Raises:
        ModelError: they do not fit, as those of a network of your own whose shapes depend on the resolution.
    """
    try:
        module.network.load_state_dict(initial.network.state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"the weights of {initial.parent.name} do not fit train.network: {' '.join(str(error).split())[:200]}",
            hint="set train.network as in the training of these weights",
        ) from error
    if not initial.normed:
        module.network.eval()
        centre_norms(module.network, changed_images(module, batches))
    module.train()


def _of_checkpoint(files: InitialFiles, network: NetworkConfig) -> InitialWeights:
    model = read_checkpoint(files.path, own_network=network.module)
    if model.network.model_copy(update={"resolution": network.resolution}) != network:
        raise ModelError(
            f"its network is {model.network!r}, train.network is {network!r}",
            file=files.path,
            hint="set train.network as in the training of these weights; only the resolution may differ",
        )
    parent = Parent(name=f"{model.run_name}, fold {model.fold}, epoch {model.epoch + 1}", sha256=files.identity)
    _say_resolution(parent, model.network, network)
    return InitialWeights(
        model.build(),
        parent,
        model.profile,
        model.training_person_ids,
        model.training_image_ids,
        model.selection_ids,
        normed=True,
    )


def _of_model(bundle: ModelBundle, entry: ModelEntry, network: NetworkConfig) -> InitialWeights:
    file, golden = bundle.path / entry.file, bundle.manifest.golden
    if network.module is not None:
        raise ModelError(
            f"{network.module} cannot be rebuilt from an ONNX model",
            file=file,
            hint="start from one of its checkpoints",
        )
    if not entry.trained_on:
        raise ModelError("the model does not say on whom it was trained", file=file)
    if golden is None:
        raise ModelError("no reference output: a network rebuilt from its models cannot be checked", file=bundle.path)
    images, outputs = read_golden(bundle.path / golden.file, len(bundle.models))
    before = network.model_copy(update={"resolution": trained_resolution(file)})
    built = rebuild(file, before, images, outputs[bundle.models.index(entry)])
    parent = Parent(name=f"{bundle.manifest.run_name}, {entry.file}", sha256=entry.sha256)
    _say_resolution(parent, before, network)
    stated = {item.key: item.value for item in onnx.load(file, load_external_data=False).metadata_props}
    image_ids = set(json.loads(stated.get("training_image_ids", "[]"))) & set(entry.trained_on)
    person_ids = set(entry.trained_on) - image_ids
    return InitialWeights(
        built,
        parent,
        bundle.profile,
        tuple(sorted(person_ids)),
        tuple(sorted(image_ids)),
        entry.selected_on,
        normed=False,
    )


def _say_resolution(parent: Parent, before: NetworkConfig, network: NetworkConfig) -> None:
    if before.resolution != network.resolution:
        text = "%s was trained at %s resolution: its weights fit, and go on at %s"
        log.info(text, parent.name, before.resolution, network.resolution)


def _refuse_seen(initial: InitialWeights, store: CaseStore, fold: int) -> None:
    known = {*initial.person_ids, *initial.image_ids}
    # Who chose an epoch may choose again, but never test.
    for role, seen in ((Role.VALID, known - {*initial.selection_ids}), (Role.TEST, known)):
        for name in store.folds.participants(fold, role):
            record = store.record(name)
            if seen & set(hashed_ids([record.participant.person_id, record.image_sha256])):
                raise ModelError(
                    f"the weights of {initial.parent.name} were trained on this person or these images, which fold "
                    f"{fold_title(fold)} uses for {role.value}: its scores would be biased (data leakage)",
                    examination_id=name,
                    file=store.path,
                    hint="leave this examination out of the store, use the split the weights were trained with, or "
                    "start from other weights; another person needs another patient_id",
                )
