"""The verbs: which options each has, and which stage it runs.

What a verb needs is imported when it runs, so that `fvv --help` stays quick and `fvv predict` never loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from fvv.cli.verbs import cohort, models, patients, shell, trying
from fvv.cli.verbs.verb import Verb

VERBS: Mapping[str, Verb] = {
    "simulate": trying.SIMULATE,
    "verify": cohort.VERIFY,
    "prepare": cohort.PREPARE,
    "export": cohort.EXPORT,
    "import": cohort.IMPORT,
    "train": models.TRAIN,
    "convert": models.CONVERT,
    "doctor": patients.DOCTOR,
    "evaluate": models.EVALUATE,
    "report": models.REPORT,
    "card": models.CARD,
    "predict": patients.PREDICT,
    "listen": patients.LISTEN,
    "gather": cohort.GATHER,
    "decide": patients.DECIDE,
    "label": cohort.LABEL,
    "agreement": cohort.AGREEMENT,
    "page": patients.PAGE,
    "demo": trying.DEMO,
    "settings": shell.SETTINGS,
    "completion": shell.COMPLETION,
}
"""In the order of the reference."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "try it": ("demo", "simulate"),
    "new patients": ("predict", "listen", "page", "decide", "doctor"),
    "a data set": ("label", "agreement", "verify", "prepare", "gather", "export", "import"),
    "models of your own": ("train", "convert", "evaluate", "report", "card"),
    "settings and shell": ("settings", "completion"),
}
"""The verbs as the help lists them."""
