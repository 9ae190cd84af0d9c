"""Who is examined, when and where: every case follows from the cohort's seed and its own number alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from fvv.config import SimulateConfig
from fvv.simulator.scanner import SITES, Site
from fvv.simulator.space import log_uniform


class Purpose(IntEnum):
    """Independent streams of random numbers of one case or person."""

    LINK = 0
    PERSON = 1
    DISEASE = 2
    STROKE = 3
    VISIT = 4
    SCAN = 5
    NOISE = 6
    READER = 7
    SHAPE = 8
    HEAD = 9
    ANATOMY = 10


def random_stream(seed: int, number: int, purpose: Purpose, attempt: int = 0) -> np.random.Generator:
    """A generator that depends on nothing but its arguments."""
    return np.random.default_rng(np.random.SeedSequence((seed, number, int(purpose), attempt)))


@dataclass(frozen=True, slots=True)
class Visit:
    """One examination of one person."""

    number: int  # of the case, from 1
    person: int  # number of the person's first case
    site: Site
    onset_h: float | None  # hours from stroke onset to this examination, None without a stroke

    @property
    def participant(self) -> str:
        """Name of the case's folder."""
        return f"sim_{self.number:04d}"

    @property
    def patient(self) -> str:
        """Name of the person."""
        return f"person_{self.person:04d}"

    @property
    def is_follow_up(self) -> bool:
        """True at a person's second examination."""
        return self.number != self.person


def plan_visit(number: int, config: SimulateConfig) -> Visit:
    """Say who case `number` (from 1) is, without looking at any other case's images.

    A case may be the second examination of the person before it: later, most often on the same scanner.
    """
    follow_up = _is_follow_up(number, config)
    person = number - 1 if follow_up else number
    rng = random_stream(config.seed, person, Purpose.VISIT)
    site = SITES[rng.integers(config.sites)]
    has_stroke = rng.random() >= config.stroke_free_share
    onset_h = log_uniform(rng, *config.onset_range_h)
    if follow_up:
        later = random_stream(config.seed, number, Purpose.VISIT)
        onset_h += log_uniform(later, 3.0, 48.0)
        if later.random() < 0.3:
            site = SITES[later.integers(config.sites)]
    return Visit(number, person, site, onset_h if has_stroke else None)


def _is_follow_up(number: int, config: SimulateConfig) -> bool:
    if number <= 1 or random_stream(config.seed, number, Purpose.LINK).random() >= config.follow_up_share:
        return False
    return not _is_follow_up(number - 1, config)
