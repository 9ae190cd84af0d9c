"""The spool: a folder for each state, in it a folder for each study. It is the queue and the only memory of the node.

incoming/            objects on their way to disk; emptied at every start
received/<study>/    <study>/*.dcm, and open/<association> for each association that has not ended well; one that its
                     sender aborted ends in .aborted, the others go on, or were cut off by a kill of this process
running/<study>/     the same, while a worker answers: results/, outbox/, record.json, worker.log
sending/<study>/     the same, and sent/<destination>/<UID> for each object that a destination has taken
done/<study>/  failed/<study>/
removed/             on its way out; emptied at every start

A study moves from state to state by one rename. What a kill interrupts is done again by the next start, with the same
outcome: objects, marks and results carry names and UIDs that depend on their content alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from fvv.errors import InputError
from fvv.io.sealed import read_record, write_sealed
from fvv.node.objects import ObjectFacts, stem_of
from fvv.schemas.node import Outcome, StudyRecord

STATES = RECEIVED, RUNNING, SENDING, DONE, FAILED = "received", "running", "sending", "done", "failed"
EARLIER = (SENDING, DONE, FAILED)
"""Where a study may lie when further objects of it arrive."""
_SETTLED: tuple[Outcome, ...] = ("answered", "not assessable", "not readable")
"""Outcomes that the same objects would give again."""
RECORD, OUTBOX, OPEN, SENT = "record.json", "outbox", "open", "sent"
_ABORTED = ".aborted"
_MOST_CUT = 1000
"""Associations that were cut off are remembered for a moment; their release may be heard of later than their end."""


class Spool:
    """Moves studies through their states; one process holds it.

    Args:
        root: made where it is not there, for its owner alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.RLock()
        self._associations: dict[str, set[str]] = {}
        self._cut: dict[str, set[str]] = {}
        self._latest: dict[str, str] = {}
        self._asked: set[str] = set()
        self._came: dict[str, float] = {}

    def open(self) -> None:
        """Make the folders, and clear what a killed process left on its way in or out."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("incoming", "removed"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in ("incoming", "removed", *STATES):
            (self.root / name).mkdir(exist_ok=True)
        for study in self.studies(RUNNING):  # Its objects are a superset of what lies in any later state.
            self._remove_earlier(study)

    def studies(self, state: str) -> list[str]:
        """Names of the studies in a state, the one whose last object came first before the others."""
        found = []
        for item in (self.root / state).iterdir():
            with suppress(FileNotFoundError):  # It just moved on.
                images = item / item.name
                found.append(((images if images.exists() else item).stat().st_mtime, item.name))
        return [name for _, name in sorted(found)]

    def folder(self, state: str, study: str) -> Path:
        """Where a study lies."""
        return self.root / state / study

    def images(self, state: str, study: str) -> Path:
        """Folder of a study's objects; its name is the study's, and so the examination's."""
        return self.folder(state, study) / study

    def incoming(self) -> Path:
        """A new file for an object that arrives."""
        return self.root / "incoming" / f"{secrets.token_hex(8)}.dcm"

    def begin(self, association: str) -> None:
        """An association is there."""
        with self._lock:
            self._associations[association] = set()

    def put(self, file: Path, facts: ObjectFacts, association: str) -> None:
        """Take an object from `incoming`; when this returns, no kill and no loss of power loses it."""
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        with self._lock:
            folder = self.folder(RECEIVED, facts.study)
            images = self.images(RECEIVED, facts.study)
            for made in (images, folder / OPEN):
                made.mkdir(parents=True, exist_ok=True)
            mark = folder / OPEN / association
            if not mark.exists():
                mark.touch()
                self._associations.setdefault(association, set()).add(facts.study)
            file.replace(images / facts.file_name)
            self._latest[association] = facts.study
            self._asked.discard(facts.study)
            self._came[facts.study] = time.monotonic()
            for place in (images, folder, folder.parent):
                sync(place)

    def end(self, association: str, *, well: bool, aborted: bool = True) -> None:
        """An association is over.

        Args:
            well: the sender released it, so each of its studies is whole; else it was cut off.
            aborted: its sender cut it off, and not this process.
        """
        with self._lock:
            self._latest.pop(association, None)
            studies = self._associations.pop(association, set()) | self._cut.pop(association, set())
            if not well and studies:
                self._cut[association] = studies
                for oldest in list(self._cut)[:-_MOST_CUT]:
                    del self._cut[oldest]
            for study in studies:
                for mark in self._marks(study):
                    if well and mark.name not in self._associations:
                        mark.unlink(missing_ok=True)
                    elif aborted and mark.name == association:
                        mark.rename(mark.with_suffix(_ABORTED))

    def waiting_s(self, study: str) -> float:
        """Seconds since the last object of a received study came, whatever the clock was set to meanwhile.

        Of a study that an earlier process received, since this one looked first: nothing comes to a node that is down.
        """
        came = self._came.setdefault(study, time.monotonic())
        return time.monotonic() - came

    def is_cut_off(self, study: str) -> bool:
        """Whether an association that brought objects of a received study neither ended well nor goes on."""
        with self._lock:
            return any(mark.name not in self._associations for mark in self._marks(study))

    def is_arriving(self, study: str) -> bool:
        """Whether an association goes on whose last object was of a study."""
        with self._lock:
            return study in self._latest.values()

    def is_asked_for(self, study: str) -> bool:
        """Whether the sender of a received study says that it is complete."""
        with self._lock:
            return study in self._asked

    def commit(self, uids: Iterable[str], images: Iterable[str]) -> set[str]:
        """A sender asks for objects by their UIDs; gives those that are here.

        Studies whose received objects are all among them are complete, unless one of the images is not here.

        Args:
            images: those of the UIDs that are of a class that is kept.
        """
        names = {stem_of(uid): uid for uid in uids}
        held: set[str] = set()
        named: list[str] = []
        with self._lock:
            for state in STATES:
                for study in self.studies(state):
                    with suppress(FileNotFoundError):
                        there = {file.stem.partition("-")[0] for file in self.images(state, study).iterdir()}
                        held |= names.keys() & there
                        if state == RECEIVED and there and there <= names.keys():
                            named.append(study)
            if held >= {stem_of(uid) for uid in images}:
                self._asked.update(named)
                for mark in (mark for study in named for mark in self._marks(study)):
                    if mark.name not in self._associations:
                        mark.unlink(missing_ok=True)  # Its sender has all that it sent, however that ended.
        return {names[name] for name in held}

    def was_aborted(self, study: str) -> bool:
        """Whether the sender of a running study aborted its last transfer.

        After a kill of this process instead, a sender repeats what was not confirmed, and has nothing to repeat where
        all was.
        """
        marks = sorted((self.folder(RUNNING, study) / OPEN).glob("*"), key=lambda mark: mark.stat().st_mtime_ns)
        return bool(marks) and marks[-1].suffix == _ABORTED

    def take(self, study: str, made_from: str) -> bool:
        """Move a complete study from received to running, joined with what came of it before.

        Returns:
            False where nothing is to be done: the same objects have their answer.
        """
        with self._lock:
            self._asked.discard(study)
            self._came.pop(study, None)
            earlier = next((state for state in EARLIER if self.folder(state, study).exists()), None)
            if earlier is not None:
                if self._is_answered(study, earlier, made_from):
                    self.remove(RECEIVED, study)
                    return False
                self._join(study, earlier)
            self.folder(RECEIVED, study).rename(self.folder(RUNNING, study))
            self._remove_earlier(study)
        return True

    def move(self, study: str, before: str, after: str) -> None:
        """From one state to the next."""
        self.folder(before, study).rename(self.folder(after, study))
        os.utime(self.folder(after, study))

    def remove(self, state: str, study: str) -> None:
        """Remove a study; a kill leaves all of it or nothing."""
        target = self.root / "removed" / f"{study}-{secrets.token_hex(4)}"
        self.folder(state, study).rename(target)
        shutil.rmtree(target, ignore_errors=True)

    def remove_empty(self, study: str) -> None:
        """Remove a received study that has no object: none can arrive meanwhile."""
        with self._lock:
            images = self.images(RECEIVED, study)
            if not images.is_dir() or not any(images.iterdir()):
                self.remove(RECEIVED, study)

    def record(self, state: str, study: str) -> StudyRecord:
        """What is known of a study; a new record where there is none, or a damaged one."""
        try:
            return read_record(self.folder(state, study) / RECORD, StudyRecord)
        except InputError:
            return StudyRecord()

    def write_record(self, state: str, study: str, record: StudyRecord) -> None:
        """Keep what is known of a study."""
        write_sealed(self.folder(state, study) / RECORD, record)

    def outbox(self, study: str) -> list[Path]:
        """Objects of a study in sending that go to every destination."""
        return sorted((self.folder(SENDING, study) / OUTBOX).glob("*.dcm"))

    def is_sent(self, study: str, destination: str, uid: str) -> bool:
        """Whether a destination has taken an object."""
        return (self.folder(SENDING, study) / SENT / destination / uid).exists()

    def note_sent(self, study: str, destination: str, uid: str) -> None:
        """A destination has taken an object."""
        mark = self.folder(SENDING, study) / SENT / destination / uid
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        sync(mark.parent)

    def _marks(self, study: str) -> Iterator[Path]:
        folder = self.folder(RECEIVED, study) / OPEN
        return iter(sorted(folder.iterdir()) if folder.is_dir() else ())

    def _is_answered(self, study: str, earlier: str, made_from: str) -> bool:
        record = self.record(earlier, study)
        came = {file.name for file in self.images(RECEIVED, study).iterdir()}
        return record.outcome in _SETTLED and record.made_from == made_from and came <= set(record.objects)

    def _join(self, study: str, earlier: str) -> None:
        """Link into a received study what came of it before, and what was sent of it; again and again is once."""
        into, before = self.folder(RECEIVED, study), self.folder(earlier, study)
        for part in (study, SENT):
            for file in (before / part).rglob("*") if (before / part).is_dir() else ():
                target = into / file.relative_to(before)
                if file.is_file() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(file, target)

    def _remove_earlier(self, study: str) -> None:
        for state in EARLIER:
            if self.folder(state, study).exists():
                self.remove(state, study)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # A file system without hard links.
        partial = target.with_name(f".{target.name}")
        shutil.copyfile(file, partial)
        partial.replace(target)


def sync(place: Path) -> None:
    """Make a file's content, or a rename in a folder, last, where the system can."""
    with suppress(OSError):
        number = os.open(place, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
