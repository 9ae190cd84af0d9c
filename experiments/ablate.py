"""What one part of the recipe is worth: the same training with and without it, tested on real and simulated heads.

    python experiments/ablate.py VARIANTS.yaml -o FOLDER --slices 65536 [--seeds 2] [--cases 200] [--test-cases 60]
        [--place anatomies=DIR ...] [--real healthy_and_strokes=DIR ...] [--only VARIANT ...]

VARIANTS.yaml names settings by their dotted names, over those of configs/model.yaml: `base` for all runs, `variants`
for each, `test` for the simulated patients that all are tested on. A text `{name}` in it is a folder given with
`--place`. A variant whose settings this version does not know is said and left out.

Every run simulates its training cohort (one seed means the same persons in every variant where the settings allow it),
prepares it, trains one fold for so many slices, converts the model of the last epoch and evaluates it, as
`fvv evaluate --external` does with brain masks of its own, on the simulated test patients and on every `--real` folder,
which experiments/real_cohort.py lays out. FOLDER/runs.jsonl has a line for each finished run, table.md the mean and the
range over seeds. The same command resumes, inside a run too.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from join_cohorts import join

from fvv.config import Config, SimulateConfig, load_config
from fvv.errors import ConfigError
from fvv.io.atomic import write_text
from fvv.schemas.summary import Summary
from fvv.stages.convert import convert
from fvv.stages.evaluate import evaluate_external
from fvv.stages.prepare import prepare
from fvv.stages.simulate import simulate
from fvv.stages.train import train_fold

SETTINGS = Path(__file__).resolve().parents[1] / "configs" / "model.yaml"
FOLD, KFOLDS = 0, 8
"""One fold of eight is trained: an eighth of the persons is left aside, as the stage wants it, and not looked at."""
FIRST_SEED, TEST_SEED, HEADS_SEED = 3000, 4000, 100_000
Overrides = dict[str, Any]

log = logging.getLogger("ablate")


@dataclass(frozen=True, slots=True)
class Budget:
    """What all runs share; part of every line, so that a run of another budget is another run.

    Attributes:
        head_cases: of `cases`, those made from real heads in variants that have them.
    """

    cases: int
    test_cases: int
    slices: int
    slices_per_epoch: int
    head_cases: int = 0

    @property
    def epochs(self) -> int:
        """At least two: the first one warms up."""
        return max(2, self.slices // self.slices_per_epoch)


def read_variants(path: Path, places: Mapping[str, str]) -> dict[str, dict[str, Overrides]]:
    """The sections `base`, `variants` and `test` of the file, with the folders put in."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    variants = {name: dict(changes or {}) for name, changes in content["variants"].items()}
    sections = {"base": {"": content.get("base") or {}}, "variants": variants, "test": {"": content.get("test") or {}}}
    filled: dict[str, dict[str, Overrides]] = _with_places(sections, places)
    return filled


def _with_places(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_places(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_places(item, places) for item in value]
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        if value[1:-1] not in places:
            raise ConfigError(f"no folder for {value}", hint=f"give --place {value[1:-1]}=DIR")
        return places[value[1:-1]]
    return value


def settings_of(base: Overrides, changes: Overrides, budget: Budget, name: str, seed: int) -> Config:
    """All settings of a run.

    Raises:
        ConfigError: one that this version does not know.
    """
    run: Overrides = {
        "simulate.cases": budget.cases,
        "simulate.seed": FIRST_SEED + seed,
        "prepare.kfolds": KFOLDS,
        "train.name": name,
        "train.seed": seed,
        "train.epochs": budget.epochs,
        "train.slices_per_epoch": budget.slices_per_epoch,
        "train.jobs": 1,
        "evaluate.own_masks": True,
        "evaluate.heatmaps": False,
    }
    return load_config(SETTINGS, base | changes | run)


def numbers(summary: Summary) -> dict[str, float | None]:
    """What the table shows of one evaluation; null where it is not defined."""
    free = summary.stroke_free
    small = next(iter(summary.stroke.lesions_by_size), None)
    found = {
        "stroke Dice": summary.stroke.dice_mean.value,
        "FLAIR-visible Dice": summary.flair_visible.dice_mean.value,
        "AUC": summary.marker.auc.value,
        "lesions under 1 mL found": math.nan if small is None else small.found.value,
        "stroke-free: no lesion found": math.nan if free is None else free.no_lesion_found.value,
        "stroke-free: mean false mL": math.nan if free is None else free.false_ml.mean,
        "stroke-free: largest false mL": math.nan if free is None else free.largest_false_ml,
    }
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def training_cohort(folder: Path, config: SimulateConfig, head_cases: int) -> Path:
    """Simulate the cohort of one run: of simulated heads, and where there are real ones, a part of them from these."""
    if getattr(config, "heads", None) is None:
        simulate(folder / "sim", config)
        return folder / "sim"
    simulate(folder / "sim", config.model_copy(update={"heads": None, "cases": config.cases - head_cases}))
    # Persons are named after the seed: another one.
    of_heads = {"cases": head_cases, "seed": config.seed + HEADS_SEED}
    simulate(folder / "heads", config.model_copy(update=of_heads))
    join({"sim": folder / "sim", "head": folder / "heads"}, folder / "joined")
    return folder / "joined"


def run(
    folder: Path, config: Config, tests: Mapping[str, Path], name: str, head_cases: int
) -> dict[str, dict[str, float | None]]:
    """Simulate, prepare, train, convert and test; every step resumes."""
    place = folder / "runs" / name
    cohort = training_cohort(place / "input_data", config.simulate, head_cases)
    prepare(cohort, place / "store", config.prepare)
    trained = train_fold(place / "store", place / "saved_models", FOLD, config.train)
    # Not the best: the few validation patients of a small cohort would choose an epoch by chance.
    checkpoint = trained.folder / "last.ckpt"
    named = {"name": config.train.name, "network": config.train.network.module}
    convert(checkpoint, place / "store", place / "bundle", config.convert, **named)
    found = {
        which: numbers(evaluate_external(test, place / "bundle", place / "tested" / which, config.evaluate).found)
        for which, test in tests.items()
    }
    for heavy in ("input_data", "store"):
        shutil.rmtree(place / heavy)
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Finished runs."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: mean and range over seeds of each number, by variant; a column that no run has is left out."""
    columns = dict.fromkeys(
        (which, number) for line in lines for which, found in line["tested"].items() for number in found
    )
    shown = [key for key in columns if any(_value(line, key) is not None for line in lines)]
    head = ["variant", "seeds", *(f"{which}: {number}" for which, number in shown)]
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for variant in dict.fromkeys(line["variant"] for line in lines):
        mine = [line for line in lines if line["variant"] == variant]
        cells = [_cell([value for line in mine if (value := _value(line, key)) is not None]) for key in shown]
        rows.append(f"| {' | '.join([variant, str(len(mine)), *cells])} |")
    return "\n".join(rows) + "\n"


def _value(line: Mapping[str, Any], key: tuple[str, str]) -> float | None:
    value: float | None = line["tested"].get(key[0], {}).get(key[1])
    return value


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "not defined"
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def ablate(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Do the runs that runs.jsonl lacks, seed by seed; gives all lines of this budget."""
    sections = read_variants(options.variants, _pairs(options.place))
    budget = Budget(options.cases, options.test_cases, options.slices, options.slices_per_epoch, options.head_cases)
    base, variants = sections["base"][""], sections["variants"]
    stated = {"budget": f"{budget}", "file": options.variants.name}
    configs = {}
    for variant in options.only or variants:
        try:
            configs[variant] = [
                settings_of(base, variants[variant], budget, _name(variant, seed), seed)
                for seed in range(options.seeds)
            ]
        except ConfigError as error:
            log.warning("%s is left out: %s", variant, error)
    test = settings_of(base, sections["test"][""], budget, "test", TEST_SEED - FIRST_SEED).simulate
    simulate(options.output / "test", test.model_copy(update={"cases": budget.test_cases}))
    options.output.mkdir(parents=True, exist_ok=True)
    tests = {"simulated": options.output / "test"}
    tests |= {name: Path(place) for name, place in _pairs(options.real).items()}
    path = options.output / "runs.jsonl"
    for seed in range(options.seeds):  # Cut short, it has compared all variants.
        for variant, of_seed in configs.items():
            key = {**stated, "variant": variant, "seed": seed}
            if any(key.items() <= line.items() for line in read_lines(path)):
                continue
            started = time.monotonic()
            found = run(options.output, of_seed[seed], tests, _name(variant, seed), budget.head_cases)
            line = {**key, "changes": variants[variant], "seconds": round(time.monotonic() - started), "tested": found}
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, default=str) + "\n")
            write_text(options.output / "table.md", table(_of(path, stated)))
    return _of(path, stated)


def _of(path: Path, stated: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [line for line in read_lines(path) if stated.items() <= line.items()]


def _name(variant: str, seed: int) -> str:
    return f"{variant.replace(',', '').replace(' ', '-')}-seed{seed}"


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", type=Path, metavar="VARIANTS.yaml", help="named overrides of settings")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for everything")
    parser.add_argument("--slices", type=int, required=True, help="training slices of a run")
    parser.add_argument("--slices-per-epoch", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cases", type=int, default=200, help="simulated patients to train on")
    parser.add_argument("--head-cases", type=int, default=40, help="of these, from real heads where a variant has them")
    parser.add_argument("--test-cases", type=int, default=60)
    parser.add_argument(
        "--place", action="append", default=[], metavar="NAME=DIR", help="folder for {NAME} in the file"
    )
    parser.add_argument("--real", action="append", default=[], metavar="NAME=DIR", help="labelled heads to test on too")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="these variants (default: all)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if ablate(options):
        print((options.output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
