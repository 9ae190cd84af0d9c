"""How a node stands: health.json for monitoring, and some lines for people. Neither names a patient."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fvv import __version__
from fvv.data import Failure
from fvv.errors import InputError
from fvv.io.sealed import read_record, write_sealed
from fvv.node.spool import DONE, FAILED, STATES, Spool
from fvv.schemas.node import DestinationHealth, Health

HEALTH_FILE = "health.json"


def health_of(spool: Spool, last_error: str, destinations: Mapping[str, DestinationHealth]) -> Health:
    """Count what lies in the spool."""
    states = {state: spool.studies(state) for state in STATES}
    ages = [
        max(0.0, time.time() - spool.images(state, study).stat().st_mtime)  # The clock may have been set back.
        for state, studies in states.items()
        for study in studies
        if state not in {DONE, FAILED} and spool.images(state, study).exists()
    ]
    return Health(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        software=__version__,
        states={state: len(studies) for state, studies in states.items()},
        oldest_waiting_s=round(max(ages), 1) if ages else None,
        last_error=last_error,
        destinations=dict(destinations),
    )


def write_health(spool: Spool, health: Health) -> None:
    """Write health.json."""
    write_sealed(spool.root / HEALTH_FILE, health)


@dataclass(frozen=True, slots=True)
class StatusResult:
    """What `fvv listen --status` shows."""

    health: Health
    written: str
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """A line each for the states, the oldest study, each destination and the last error."""
        one = self.health
        oldest = "none waits" if one.oldest_waiting_s is None else f"the oldest waits {one.oldest_waiting_s:.0f} s"
        lines = [", ".join(f"{state} {count}" for state, count in one.states.items()), oldest]
        for name, there in one.destinations.items():
            said = f"{there.failures} failures, last: {there.last_error}" if there.failures else "takes results"
            lines.append(f"destination {name}: {said}")
        return "\n".join([*lines, f"last error: {one.last_error or 'none'}", f"node last seen: {self.written}"])


def status(spool: str | Path) -> StatusResult:
    """How the node of a spool stands, whether or not it runs.

    Raises:
        InputError: there is no spool, or it is another user's.
    """
    root = Path(spool)
    try:
        found = {item.name for item in root.iterdir()}
    except PermissionError as error:
        hint = "as its user: sudo -u fvv fvv listen ..."
        raise InputError("only the user of the node may look here", file=root, hint=hint) from error
    except OSError:
        found = set()
    if DONE not in found:
        raise InputError("no spool of fvv listen", file=root, hint="name it with --spool")
    try:
        last = read_record(root / HEALTH_FILE, Health)
    except InputError:
        return StatusResult(health_of(Spool(root), "", {}), "never")
    return StatusResult(health_of(Spool(root), last.last_error, last.destinations), last.time)
