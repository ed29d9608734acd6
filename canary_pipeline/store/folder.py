"""The folder of one rollout: where its header, rows and state are written."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel

from canary_pipeline.model.record import Header, InFlight
from canary_pipeline.model.rows import (
    CohortRow,
    GateRow,
    RollbackRow,
    RolloutWarning,
)
from canary_pipeline.outside.token import Redactor
from canary_pipeline.store import layout, seal
from canary_pipeline.store.reading import FILE_OF, NotARolloutError, Reading

__all__ = ["Evidence", "NotARolloutError"]


class Evidence(Reading):
    """One rollout's folder."""

    @classmethod
    def create(cls, folder: Path, header: Header, redactor: Redactor | None = None) -> "Evidence":
        """Make the folder of a new rollout.

        Raises:
            FileExistsError: When the folder exists and is not empty.
            OSError: When it cannot be made or written.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir() or any(folder.iterdir()):
                raise
        evidence = cls(folder, redactor)
        (folder / layout.LOGS).mkdir()
        with evidence._locked():  # as every later change of it
            evidence.write_header(header)
        return evidence

    def write_header(self, header: Header) -> None:
        """Write `rollout.json` whole or not at all."""
        self._write_model(layout.HEADER, header)
        self._known = header

    def _write_model(self, name: str, model: BaseModel) -> None:
        self.write_text(name, model.model_dump_json(indent=2) + "\n")

    def add(self, row: GateRow | CohortRow | RollbackRow) -> None:
        """Add a row to the file of its kind; what cannot be published now is later.

        Raises:
            OSError: When it cannot be written; the rows are as they were before.
            LostError: When the environment may be another's.
        """
        self.holding.confirm()
        row = row.model_copy(update={"claim_token": self.holding.token})
        self.append(FILE_OF[type(row)], row.to_json_object())
        self.holding.publish()

    def add_warning(self, warning: RolloutWarning) -> None:
        """Add a warning that the summary will show."""
        self.append(layout.WARNINGS, warning.model_dump())

    def update_header(self, change: Callable[[Header], Header]) -> Header:
        """Change `rollout.json` under a lock, and return it as it is now.

        Raises:
            NotARolloutError: When it cannot be read.
            OSError: When it cannot be written.
        """
        with self._locked():
            header = change(self.header())
            self.write_header(header)
            return header

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def seal(self, sealed: Mapping[str, str]) -> dict[str, str]:
        """The last link of each file of rows: what proves later that none was lost.

        Args:
            sealed: The links before; a file that does not hold its link any more keeps it.
        """
        broken = {problem.file for problem in self._chain_problems(sealed)}
        return {
            name: sealed.get(name, "") if name in broken else seal.last_link(self.read_bytes(name))
            for name in layout.RESULTS
        }

    def rescue(self) -> bool:
        """Make the folder anew, with what is known of its header, if somebody took it away.

        Returns:
            Whether that was so; its rows and files are gone then.
        """
        if self._known is None or self.exists(layout.HEADER):
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_header(self._known.model_copy(update={"sealed": {}}))
        return True

    def set_in_flight(self, state: InFlight) -> None:
        """Record what a step is doing now."""
        self._write_model(layout.in_flight(state.step), state)

    def clear_in_flight(self, step: str) -> None:
        """Forget a step that has ended; the folder of such steps goes with the last one."""
        (self.folder / layout.in_flight(step)).unlink(missing_ok=True)
        self._drop_empty_in_flight()

    def _drop_empty_in_flight(self) -> None:
        with suppress(OSError):
            (self.folder / layout.IN_FLIGHT).rmdir()
        self.holding.written()

    def tidy(self) -> None:
        """Remove what killed steps left, before another attempt; how far a soak was stays.

        Only a cohort that was killed in its soak has something that must outlive it.
        """
        record = self.record()
        for state in self.all_in_flight():
            probe = state.probe
            last = record.last_cohort_row(probe.cohort_percent) if probe else None
            if probe is None or (last is not None and last.attempt >= state.attempt):
                self.clear_in_flight(state.step)
        for partial in self.folder.rglob(layout.TEMPORARY):
            partial.unlink(missing_ok=True)
        self._drop_empty_in_flight()
