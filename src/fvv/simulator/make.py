"""The case of a number, from whatever source of heads the settings name."""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from fvv.config import SimulateConfig
from fvv.simulator.anatomies import head_of_person
from fvv.simulator.anatomy import average_head
from fvv.simulator.case import SimulatedCase, simulate_case
from fvv.simulator.real_case import simulate_on_real_head
from fvv.simulator.visits import plan_visit


def make_case(number: int, config: SimulateConfig) -> SimulatedCase:
    """Make case `number` (from 1) of a cohort; it depends on the number and the settings, and on nothing else.

    Raises:
        FvvError: the tissue maps are not installed, a source of heads cannot be used, or no visible stroke was found.
    """
    # BLAS may add in another order with another number of threads: one thread gives the same bytes everywhere.
    with threadpool_limits(1):
        if config.heads is not None:
            return simulate_on_real_head(number, average_head(), config)
        return simulate_case(number, head_of_person(plan_visit(number, config).person, config), config)
