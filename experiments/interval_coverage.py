"""Do 95 % intervals hold the true value in 95 of 100 cohorts? Prints a table; writes the figure where asked.

    python experiments/interval_coverage.py [--draws 1000] [--figure docs/images/coverage.svg]

Each cohort is a sample of a known law: log-normal FVV, mismatch lower (AUC 0.85), every person examined once. The true
AUC and kappa follow from the law; the true mean Dice is its mean.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from fvv.analysis.statistics import (
    Bootstrap,
    auc,
    cohen_kappa,
    confusion,
    delong_interval,
    wilson_interval,
)

AUC, PREVALENCE, CUTOFF_ML = 0.85, 0.6, 0.5
SHIFT = math.sqrt(2) * stats.norm.ppf(AUC)
"""Distance of the classes' means of ln FVV, in standard deviations: AUC = Phi(shift / sqrt 2)."""
DICE_LAW = (5.0, 2.0)
"""Beta law of a patient's Dice, mean 5/7."""


def true_values() -> dict[str, float]:
    """What the intervals should hold."""
    under = [float(stats.norm.cdf(math.log(CUTOFF_ML), mean, 1.0)) for mean in class_means()]
    table = np.array(
        [
            [PREVALENCE * under[0], PREVALENCE * (1 - under[0])],
            [(1 - PREVALENCE) * under[1], (1 - PREVALENCE) * (1 - under[1])],
        ]
    )
    return {
        "AUC, DeLong": AUC,
        "AUC, bootstrap": AUC,
        "kappa, bootstrap": cohen_kappa(table),
        "mean Dice, bootstrap": DICE_LAW[0] / sum(DICE_LAW),
        "sensitivity, Wilson": under[0],
    }


def class_means() -> tuple[float, float]:
    """Means of ln FVV of mismatch and of the others, about the cut-off."""
    middle = math.log(CUTOFF_ML)
    return middle - SHIFT / 2, middle + SHIFT / 2


def intervals(rng: np.random.Generator, n: int, samples: int) -> dict[str, tuple[float, float]]:
    """The intervals of one cohort of n persons."""
    mismatch = rng.random(n) < PREVALENCE
    fvv_ml = np.exp(rng.normal(np.where(mismatch, *class_means()), 1.0))
    dice = rng.beta(*DICE_LAW, n)

    def numbers(sample: np.ndarray) -> dict[str, float]:
        volumes, labels = fvv_ml[sample], mismatch[sample]
        return {
            "AUC, bootstrap": auc(volumes, labels),
            "kappa, bootstrap": cohen_kappa(confusion(volumes, labels, CUTOFF_ML)),
            "mean Dice, bootstrap": float(dice[sample].mean()),
        }

    estimates = Bootstrap(samples, rng).intervals(np.arange(n), numbers)
    estimates["AUC, DeLong"] = delong_interval(fvv_ml, mismatch)
    called = int((mismatch & (fvv_ml < CUTOFF_ML)).sum())
    estimates["sensitivity, Wilson"] = wilson_interval(called, int(mismatch.sum()))
    return {name: (estimate.low, estimate.high) for name, estimate in estimates.items()}


def coverage(n: int, *, draws: int = 1000, samples: int = 500, seed: int = 0) -> dict[str, float]:
    """Share of the cohorts whose interval contains the true value, by kind of interval.

    Args:
        n: persons in a cohort.
        draws: cohorts.
        samples: bootstrap draws in each.
        seed: of the simulation.
    """
    rng = np.random.default_rng(seed)
    true_value = true_values()
    held = dict.fromkeys(true_value, 0)
    for _ in range(draws):
        for name, (low, high) in intervals(rng, n, samples).items():
            held[name] += low <= true_value[name] <= high
    return {name: count / draws for name, count in held.items()}


def figure(results: dict[int, dict[str, float]], draws: int) -> Figure:
    """Coverage against the size of the cohort, with the band in which 95 of 100 simulations of a true 95 % fall."""
    drawing = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = drawing.add_subplot()
    sizes = sorted(results)
    error = 1.96 * math.sqrt(0.95 * 0.05 / draws)
    axes.axhspan(100 * (0.95 - error), 100 * (0.95 + error), color="#e8ecf0", label="95 % within chance")
    for name in true_values():
        axes.plot(sizes, [100 * results[n][name] for n in sizes], "o-", linewidth=1.2, markersize=4, label=name)
    axes.set(
        xlabel="persons in the cohort", ylabel="intervals that contain the true value (%)", ylim=(90, 100), xscale="log"
    )
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, ncols=2)
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="cohorts of each size")
    parser.add_argument("--figure", type=Path, help="SVG file to write")
    options = parser.parse_args()
    draws: int = options.draws
    results = {n: coverage(n, draws=draws) for n in (40, 100, 300)}
    print(f"coverage of 95 % intervals, {draws} cohorts of each size")
    print(f"{'interval':<24}" + "".join(f"{f'n = {n}':>10}" for n in results))
    for name in true_values():
        print(f"{name:<24}" + "".join(f"{100 * one[name]:>9.1f}%" for one in results.values()))
    if options.figure is not None:
        figure(results, draws).savefig(options.figure, metadata={"Date": None})


if __name__ == "__main__":
    main()
