"""The table of all runs of a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from peers import FIRST_PEER, PEERS

from fvv.analysis.marker import marker_data
from fvv.analysis.statistics import Bootstrap
from fvv.config import EvaluateConfig
from fvv.data import Channel
from fvv.io.evaluation import EvaluationFolder
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import Estimate, Summary

REFUSED_FILE = "refused.txt"
"""In the folder of a run: why there are no results of it."""


def numbers(summary: Summary) -> dict[str, float]:
    """What the table shows of one evaluation."""
    found = {f"{channel.title} Dice": summary.of(channel).dice_mean.value for channel in Channel}
    by_size = summary.stroke.lesions_by_size
    found |= {f"lesions {row.size}, found of {row.found.trials}": row.found.value for row in by_size}
    return found | {"FVV, Spearman": summary.flair_visible.volume.rank.value, "AUC": summary.marker.auc.value}


def auc_gain(ours: Sequence[PatientResult], theirs: Sequence[PatientResult]) -> Estimate:
    """AUC of their FVV minus that of ours, on the examinations that both measured."""
    sides = []
    for patients in (theirs, ours):
        data = marker_data(patients, EvaluateConfig().visible_fraction_label)
        names = [patients[index].examination_id for index in data.used]
        sides.append(dict(zip(names, zip(data.fvv_ml, data.mismatch, data.persons, strict=True), strict=True)))
    common = sorted(set(sides[0]) & set(sides[1]))
    first, second = (np.array([side[name][0] for name in common], dtype=float) for side in sides)
    mismatch = np.array([sides[1][name][1] for name in common], dtype=bool)
    persons = np.array([sides[1][name][2] for name in common])
    bootstrap = Bootstrap(2000, np.random.default_rng(0))
    return bootstrap.auc_difference(first, second, mismatch, persons, np.zeros(len(common), dtype=int))


def table(folder: Path) -> str:
    """Markdown: a column for each peer, mean and range over its seeds; intervals are those of its first seed.

    Below it, the runs without results, with the reason.
    """
    runs: dict[str, list[Path]] = {}
    for costs in sorted(folder.glob("runs/*/costs.json")):
        runs.setdefault(costs.parent.name.rpartition("-seed")[0], []).append(costs.parent)
    peers = [peer for peer in PEERS if peer in runs]
    read = {peer: [EvaluationFolder(place / "tested").read_finished() for place in runs[peer]] for peer in peers}
    costs_of = {peer: [json.loads((place / "costs.json").read_text()) for place in runs[peer]] for peer in peers}
    rows: dict[str, list[str]] = {"seeds": [str(len(runs[peer])) for peer in peers]}
    rows["examinations"] = [str(len(read[peer][0][1])) for peer in peers]
    for peer in peers:
        shown = [numbers(summary) for summary, _ in read[peer]]
        if PEERS[peer].nnunet:
            shown = [one | {f"{Channel.BRAIN.title} Dice": math.nan} for one in shown]
        for name in shown[0]:
            rows.setdefault(name, []).append(_cell([one[name] for one in shown], 3))
        auc = read[peer][0][0].marker.auc
        rows.setdefault("AUC, 95 %", []).append(_interval(auc))
        gain = None
        if FIRST_PEER in read and peer != FIRST_PEER:
            gain = auc_gain(read[FIRST_PEER][0][1], read[peer][0][1])
        rows.setdefault(f"AUC minus that of {FIRST_PEER}, 95 %", []).append("" if gain is None else _interval(gain))
        rows.setdefault("training", []).append(costs_of[peer][0]["training"])
        for name, value in costs_of[peer][0].items():
            if name != "training":
                values = [one[name] for one in costs_of[peer] if one[name] is not None]
                rows.setdefault(name, []).append(_cell(values, 1) if value is not None else "resumed")
    lines = [["", *peers], ["---"] * (len(peers) + 1), *([name, *cells] for name, cells in rows.items())]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines) if peers else ""
    for file in sorted(folder.glob(f"runs/*/{REFUSED_FILE}")):
        if not (file.parent / "costs.json").exists():
            text += f"\n* {file.parent.name}: {file.read_text(encoding='utf-8').strip()}\n"
    return text


def _cell(values: Sequence[float], decimals: int) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "not defined"
    mean = f"{sum(known) / len(known):.{decimals}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{decimals}f} to {max(known):.{decimals}f})"


def _interval(one: Estimate) -> str:
    return "not defined" if math.isnan(one.value) else f"{one.value:.3f} [{one.low:.3f} to {one.high:.3f}]"
