"""Notices that wait for their receiver: one file each, so that none holds up another.

A notice is told at least once, with an id by which a receiver knows it again. What was told stays
on file for some time, so that nobody puts the same notice in again.
"""

import json
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from canary_pipeline.model.plan import Recorded
from canary_pipeline.store.journal import state_folder
from canary_pipeline.store.writing import write_whole

OLDEST = timedelta(days=1)
"""A notice that could not be told for this long is no news any more."""

KEPT = timedelta(days=30)


class Item(Recorded):
    """One notice.

    Attributes:
        environment: What was rolled out to.
        folder: The rollout's folder; empty for a run that opened none.
        attempt: Its attempt, or 0.
        decision: Such as `allow`, `block`, `withdrawn` or `no decision`.
        reasons: What there is to say, each with where its evidence lies.
        remarks: What the decision's word does not say by itself.
        run_id: The run of the attempt.
        at: When it was put in.
        tries: How often it was tried in vain.
        told: Whether the receiver has it.
    """

    environment: str
    folder: str
    attempt: int
    decision: str
    reasons: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...] = ()
    run_id: str
    at: datetime
    tries: int = 0
    told: bool = False

    @property
    def id(self) -> str:
        """The same for the same folder, attempt and decision."""
        # A run that opened no folder is known by itself.
        named = (self.folder or self.run_id, self.attempt, self.decision)
        return sha256(json.dumps(named).encode()).hexdigest()[:32]


class Outbox:
    """The notices of one environment on this host, of this user."""

    def __init__(self, environment: str) -> None:
        """Name the environment; nothing is read yet."""
        self._folder = state_folder() / "outbox" / environment

    def put(self, item: Item) -> None:
        """Put a notice in, unless it is there or was told already.

        Raises:
            OSError: When it cannot be written.
        """
        if not self._path(item).exists():
            self.note(item)

    def note(self, item: Item) -> None:
        """Write down how it stands with a notice."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(item), item.model_dump_json(indent=2).encode())

    def waiting(self, now: datetime) -> list[Item]:
        """What is to be told: what was tried least often first, then the oldest."""
        found = []
        for path in self._folder.glob("*.json"):
            with suppress(OSError, ValidationError):  # one that cannot be read holds up no other
                item = Item.model_validate_json(path.read_bytes())
                if now - item.at > KEPT:
                    path.unlink()
                elif not item.told and now - item.at <= OLDEST:
                    found.append(item)
        return sorted(found, key=lambda item: (item.tries, item.at))

    def _path(self, item: Item) -> Path:
        return self._folder / f"{item.id}.json"
