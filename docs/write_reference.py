"""Write the pages that repeat the code: the default settings, the commands, the formats of files.

`make reference` runs it; a test fails when a page and the code no longer agree.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.json_schema import GenerateJsonSchema

from fvv.cli.parser import build_parser, verb_parsers
from fvv.cli.settings import as_yaml
from fvv.cli.verbs import VERBS
from fvv.config import Config
from fvv.io.sealed import SEAL
from fvv.schemas.base import FileModel
from fvv.schemas.bundle import BundleManifest
from fvv.schemas.checkpoint import CheckpointDescription
from fvv.schemas.labels import AgreementRecord, DraftRecord
from fvv.schemas.migrations import CURRENT, VERSION_KEY
from fvv.schemas.node import Health, StudyRecord
from fvv.schemas.ownership import Marker
from fvv.schemas.patient import PatientRecord
from fvv.schemas.results import PatientResult
from fvv.schemas.run import RunRecord
from fvv.schemas.simulation import Simulation
from fvv.schemas.store import CaseRecord, ShardReport, SplitMemory, StoreDescription
from fvv.schemas.summary import Summary
from fvv.schemas.training_run import FoldProgress, RunDescription

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = ROOT / "src" / "fvv" / "configs" / "default.yaml"
COMMANDS = ROOT / "docs" / "reference" / "commands.md"
FILES = ROOT / "docs" / "reference" / "files.md"
SCHEMAS = ROOT / "docs" / "reference" / "schemas"
FORMATS_TITLE = "## On-disk formats"


class Format(NamedTuple):
    """One kind of file.

    Attributes:
        model: of its content.
        place: where it lies.
        verbs: that write it.
        sealed: it carries a hash of its own content.
    """

    model: type[FileModel]
    place: str
    verbs: str
    sealed: bool = True

    @property
    def page(self) -> Path:
        """Its JSON Schema."""
        return SCHEMAS / f"{self.model.kind.replace(' ', '-')}.json"


FORMATS = (
    Format(Simulation, "`<patient>/simulation.json`", "simulate"),
    Format(StoreDescription, "`preprocessed_data/store.json`", "prepare"),
    Format(CaseRecord, "attributes of `preprocessed_data/cases/<patient>.zarr`", "prepare"),
    Format(SplitMemory, "`preprocessed_data/split.json`", "prepare"),
    Format(ShardReport, "`preprocessed_data/.fvv.shards/I-of-N/report.json`", "prepare --shard"),
    Format(RunDescription, "`saved_models/NAME/fold_K/run.json`", "train"),
    Format(FoldProgress, "`saved_models/NAME/fold_K/done.json`", "train"),
    Format(CheckpointDescription, "key `fvv` of `saved_models/NAME/fold_K/*.ckpt`", "train", sealed=False),
    Format(BundleManifest, "`saved_models_ONNX/bundle.json`", "convert, evaluate --calibrate", sealed=False),
    Format(PatientRecord, "`processed_data/patients/<patient>.json`", "evaluate"),
    Format(Summary, "`processed_data/summary.json`", "evaluate, report"),
    Format(PatientResult, "`results.json`", "predict"),
    Format(RunRecord, "`run.json`; `.fvv.shards/I-of-N/run.json`", "predict; simulate, evaluate, predict --shard"),
    Format(DraftRecord, "`draft.json` of each examination of `fvv label`", "label"),
    Format(AgreementRecord, "`reader_agreement/agreement.json`", "agreement"),
    Format(StudyRecord, "`fvv_spool/<state>/<study>/record.json`", "listen"),
    Format(Health, "`fvv_spool/health.json`", "listen"),
    Format(Marker, "`.fvv.json` in every output folder", "all", sealed=False),
)


class _WithoutTitles(GenerateJsonSchema):
    """A title that repeats a field's name says nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's
        return False


def default_settings() -> str:
    """All settings with their defaults as YAML; the comments are the docstrings of their fields."""
    head = "# Every setting with its default: the same as giving no file. Copy what you change.\n"
    head += "# Written by `make reference` from the code.\n"
    return f"{head}\n{as_yaml(Config())}\n"


def commands() -> str:
    """Every verb with its options, as Markdown."""
    parser = build_parser()
    lines = [
        "# Commands",
        "",
        "Written by `make reference` from the code. Options override the settings file only when they are given.",
        "Options of every verb:",
        "",
    ]
    verbs = verb_parsers(parser)
    common = {"-c", "--set", "--verbose", "-h"}
    first = next(iter(verbs.values()))
    lines += _table(action for action in first._actions if common & set(action.option_strings))
    for name, verb in verbs.items():
        lines += ["", f"## fvv {name}", "", str(verb.description), ""]
        lines += _table(action for action in verb._actions if not common & set(action.option_strings))
        lines += ["", "```", *VERBS[name].examples, "```"]
    return "\n".join(lines) + "\n"


def schema(form: Format) -> str:
    """JSON Schema of the files of one kind, as this version writes them."""
    content = form.model.model_json_schema(mode="serialization", schema_generator=_WithoutTitles)
    fields = {VERSION_KEY: {"const": CURRENT[form.model.kind], "type": "integer"}}
    if form.sealed:
        fields[SEAL] = {"description": "SHA-256 of the rest, as `fvv.io.sealed` takes it", "type": "string"}
    content["properties"] |= fields
    content["required"] = [*content.get("required", ()), *fields]
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **content}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def formats() -> str:
    """The section of files.md on the kinds of JSON files: where, by whom, which version, and how a version changes."""
    rows = ["| kind | file | written by | version | sealed | schema |", "|---|---|---|---|---|---|"]
    for form in FORMATS:
        kind, page = form.model.kind, form.page
        link = f"[{page.name}]({page.relative_to(FILES.parent).as_posix()})"
        sealed = "yes" if form.sealed else "no"
        rows.append(f"| {kind} | {form.place} | `{form.verbs}` | {CURRENT[kind]} | {sealed} | {link} |")
    table = "\n".join(rows)
    return f"""{FORMATS_TITLE}

Written by `make reference` from `fvv/schemas/`. Each of these carries the version of its kind as `{VERSION_KEY}`; its
schema describes every field. A sealed file also carries `{SEAL}`, the SHA-256 of its own content: one that was
edited is refused or, where that can be done, made again.

{table}

A change of what a kind of file holds raises its version in `CURRENT` and adds a step from the version before to `STEPS`
(both in `fvv/schemas/migrations.py`), in one commit: files of every earlier version stay readable. A file of a newer
version, or of a version without a step, is refused in one line.
"""


def files_page() -> str:
    """files.md with its last section, the only written one, as the code has it."""
    return FILES.read_text(encoding="utf-8").partition(FORMATS_TITLE)[0] + formats()


def _table(actions: Iterator[argparse.Action]) -> list[str]:
    rows = ["| option | meaning |", "|---|---|"]
    for action in actions:
        flags = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{action.metavar}`"
        choices = f"; one of: {', '.join(map(str, action.choices))}" if action.choices else ""
        rows.append(f"| {flags} | {action.help}{choices} |".replace("%%", "%"))
    return rows


if __name__ == "__main__":
    DEFAULTS.write_text(default_settings(), encoding="utf-8")
    COMMANDS.parent.mkdir(parents=True, exist_ok=True)
    COMMANDS.write_text(commands(), encoding="utf-8")
    FILES.write_text(files_page(), encoding="utf-8")
    SCHEMAS.mkdir(exist_ok=True)
    for form in FORMATS:
        form.page.write_text(schema(form), encoding="utf-8")
    for page in (DEFAULTS, COMMANDS, FILES, SCHEMAS):
        print(f"wrote {page.relative_to(ROOT)}")
