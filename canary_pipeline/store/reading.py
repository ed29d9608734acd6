"""A rollout's folder, read: its header, its rows, and what does not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from canary_pipeline.model.looks import Look
from canary_pipeline.model.record import Header, InFlight, Problem, Record
from canary_pipeline.model.rows import (
    ALL_GATES,
    CohortRow,
    GateRow,
    RollbackRow,
    RolloutWarning,
    Row,
)
from canary_pipeline.model.watching import unsupported
from canary_pipeline.store import layout, seal
from canary_pipeline.store.files import Files

RowModel = TypeVar("RowModel", bound=BaseModel)

ResultModel = TypeVar("ResultModel", bound=Row)


FILE_OF: dict[type[Row], str] = {
    GateRow: layout.GATE_RESULTS,
    CohortRow: layout.COHORT_RESULTS,
    RollbackRow: layout.ROLLBACK_RESULTS,
}
"""By kind, where rows are."""


class NotARolloutError(Exception):
    """A folder holds no readable rollout."""


class Reading(Files):
    """A rollout's folder, for whoever reads it."""

    def header(self) -> Header:
        """Read `rollout.json`.

        Raises:
            NotARolloutError: When it is missing or cannot be read.
        """
        try:
            header = Header.model_validate_json(self.read_whole(layout.HEADER))
        except FileNotFoundError:
            message = f"{self.folder} holds no {layout.HEADER}"
            raise NotARolloutError(message) from None
        except (OSError, ValidationError) as error:
            message = f"{self.folder / layout.HEADER} cannot be read: {_first_line(error)}"
            raise NotARolloutError(message) from None
        self._known = header
        return header

    def record(self) -> Record:
        """Read every row; what cannot be read becomes a problem.

        Raises:
            NotARolloutError: When `rollout.json` cannot be read.
        """
        problems: list[Problem] = []
        gate_rows = self._results(layout.GATE_RESULTS, GateRow, problems)
        cohort_rows = self._results(layout.COHORT_RESULTS, CohortRow, problems)
        rollback_rows = self._results(layout.ROLLBACK_RESULTS, RollbackRow, problems)
        warnings = self._rows(layout.WARNINGS, RolloutWarning, [])
        return Record(
            self.header(),
            tuple(gate_rows),
            tuple(cohort_rows),
            tuple(warnings),
            tuple(problems),
            tuple(rollback_rows),
        )

    def verified_record(self, known: Mapping[str, str] | None = None) -> Record:
        """Read every row, and find a problem in each file that is not as it was written.

        Each row holds a link of a hash chain over its file, and the SHA-256 of whatever file it
        names; rows belong to an attempt that the header knows.

        Args:
            known: By name, the SHA-256 of every file that a row may name; by default each is read.

        Raises:
            NotARolloutError: When `rollout.json` cannot be read.
        """
        record = self.record()
        digests = {ref.name: ref.sha256 for row in record.rows for ref in row.files()}
        digest_of = self.sha256 if known is None else known.get
        soaked_since = {layout.health(p) for p, row in record.cohorts if self._soaked_since(p, row)}
        found = [
            Problem(name, "is missing or is not the file that its row was written for")
            for name, digest in digests.items()
            if digest_of(name) != digest and name not in soaked_since
        ]
        found += self._chain_problems(record.header.sealed)
        found += self._health_problems(record)
        found += _strangers(record)
        return replace(record, problems=(*record.problems, *found))

    def _health_problems(self, record: Record) -> list[Problem]:
        """What the looks on file say against cohorts that passed."""
        found = []
        for percent, row in record.cohorts:
            name = layout.health(percent)
            broken = seal.problem_of(self.read_bytes(name), "")
            said = broken or (row and unsupported(record.header, row, self.looks(percent)))
            if said:
                found.append(Problem(name, said))
        return found

    def _results(
        self, name: str, model: type[ResultModel], problems: list[Problem]
    ) -> list[ResultModel]:
        """The rows of a file, without those of who had lost the environment to a later token."""
        counting: list[ResultModel] = []
        newest = 0
        for row in self._rows(name, model, problems):
            token = row.claim_token
            if token is not None and token < newest:
                message = f"holds a row of claim {token} after one of claim {newest}: it is ignored"
                problems.append(Problem(name, message))
            else:
                newest = token or newest
                counting.append(row)
        return counting

    def _rows(self, name: str, model: type[RowModel], problems: list[Problem]) -> list[RowModel]:
        try:
            data = self.read_whole(name)
        except FileNotFoundError:
            return []
        except OSError as error:
            problems.append(Problem(name, f"cannot be read: {error.strerror}"))
            return []
        rows = []
        for number, line in enumerate(seal.lines_of(data), start=1):
            if not line.endswith(b"\n"):
                break  # a row that is being written, or was when its writer was killed
            try:
                rows.append(model.model_validate_json(line))
            except ValidationError:
                problems.append(Problem(name, f"line {number} is not a row"))
        return rows

    def _chain_problems(self, sealed: Mapping[str, str]) -> list[Problem]:
        found = []
        for name in layout.RESULTS:
            message = seal.problem_of(self.read_bytes(name), sealed.get(name, ""))
            if message is not None:
                found.append(Problem(name, message))
        return found

    def looks(self, percent: int) -> list[Look]:
        """The looks at staging while a cohort soaked; what is no look is left out."""
        return self._rows(layout.health(percent), Look, [])

    def _soaked_since(self, percent: int, row: CohortRow | None) -> bool:
        """Whether a later attempt at a cohort that failed has added looks, and no row yet."""
        looks = self.looks(percent) if row and row.status == "failed" else []
        return bool(row and looks and looks[-1].attempt > row.attempt)

    def in_flight(self, step: str) -> InFlight | None:
        """What a step that has begun and not ended was doing, or None."""
        return self._in_flight(layout.in_flight(step))

    def all_in_flight(self) -> Sequence[InFlight]:
        """Every step that has begun and not ended."""
        paths = sorted((self.folder / layout.IN_FLIGHT).glob("*.json"))
        states = (self._in_flight(f"{layout.IN_FLIGHT}/{path.name}") for path in paths)
        return [state for state in states if state is not None]

    def _in_flight(self, name: str) -> InFlight | None:
        try:
            return InFlight.model_validate_json(self.read_bytes(name))
        except ValidationError:
            return None


def _strangers(record: Record) -> list[Problem]:
    """A problem for each file with rows of what the header does not know."""
    header = record.header
    known = {(attempt.attempt, attempt.run_id) for attempt in header.attempts}
    strange = {
        (FILE_OF[type(row)], "an attempt")
        for row in record.rows
        if (row.attempt, row.run_id) not in known
    }
    if any(row.cohort_percent not in header.cohorts for row in record.cohort_rows):
        strange.add((layout.COHORT_RESULTS, "a cohort"))
    gates = {ALL_GATES, *(gate.name for gate in header.gates)}
    if any(row.gate not in gates for row in record.gate_rows):
        strange.add((layout.GATE_RESULTS, "a gate"))
    return [
        Problem(name, f"holds rows of {what} that {layout.HEADER} does not know")
        for name, what in sorted(strange)
    ]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
