"""The folder of one rollout: rows, files and state. The only module that touches it.

Whatever is written goes through the redactor, so that no caller can forget the token in it.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, TypeVar

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
from canary_pipeline.outside.token import Redactor
from canary_pipeline.store import layout, seal
from canary_pipeline.store.holding import NOTHING, Holding
from canary_pipeline.store.log import Log
from canary_pipeline.store.published import CONCLUDING
from canary_pipeline.store.writing import append_row, write_whole

RowModel = TypeVar("RowModel", bound=BaseModel)
ResultModel = TypeVar("ResultModel", bound=Row)


class NotARolloutError(Exception):
    """A folder holds no readable rollout."""


class Evidence:
    """One rollout's folder."""

    def __init__(
        self, folder: Path, redactor: Redactor | None = None, holding: Holding = NOTHING
    ) -> None:
        """Look at a folder; nothing is read or written yet.

        Args:
            folder: The rollout's folder, absolute.
            redactor: Knows what must not be written; by default nothing is known.
            holding: What is held by whoever writes.
        """
        self.folder = folder
        self.redactor = redactor or Redactor(None)
        self.holding = holding
        self._known: Header | None = None

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
        evidence.write_header(header)
        return evidence

    # -- reading ------------------------------------------------------------------------------

    def header(self) -> Header:
        """Read `rollout.json`.

        Raises:
            NotARolloutError: When it is missing or cannot be read.
        """
        try:
            header = Header.model_validate_json((self.folder / layout.HEADER).read_bytes())
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

    def verified_record(self) -> Record:
        """Read every row, and find a problem in each file that is not as it was written.

        Each row holds a link of a hash chain over its file, and the SHA-256 of whatever file it
        names; rows belong to an attempt that the header knows.

        Raises:
            NotARolloutError: When `rollout.json` cannot be read.
        """
        record = self.record()
        digests = {ref.name: ref.sha256 for row in record.rows for ref in row.files()}
        soaked_since = {layout.health(p) for p, row in record.cohorts if self._soaked_since(p, row)}
        found = [
            Problem(name, "is missing or is not the file that its row was written for")
            for name, digest in digests.items()
            if self.sha256(name) != digest and name not in soaked_since
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
            data = (self.folder / name).read_bytes()
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

    def exists(self, name: str) -> bool:
        """Whether the folder holds a file of this name."""
        return (self.folder / name).is_file()

    def read_bytes(self, name: str) -> bytes:
        """What a file holds; nothing where it cannot be read."""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return b""

    def read_text(self, name: str) -> str | None:
        """A file's text, or None where it cannot be read."""
        try:
            return (self.folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def changed_at(self) -> datetime | None:
        """When a file was last added to or taken from the folder, or None where unknown."""
        try:
            return datetime.fromtimestamp(self.folder.stat().st_mtime, UTC)
        except (OSError, ValueError, OverflowError):
            return None

    def size(self, name: str) -> int | None:
        """A file's size in bytes, or None where there is none."""
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return None

    def sha256(self, name: str) -> str | None:
        """A file's SHA-256 in hexadecimal, or None where it cannot be read."""
        try:
            with (self.folder / name).open("rb") as file:
                return file_digest(file, sha256).hexdigest()
        except OSError:
            return None

    def digests(self) -> dict[str, str]:
        """By name, the SHA-256 of every file that a decision is about.

        It is empty for what is no regular file, or cannot be read.
        """
        names = (found for found in _below(self.folder, "") if layout.is_decided_on(found[0]))
        return {name: (self.sha256(name) or "") if regular else "" for name, regular in names}

    def tail(self, name: str, lines: int, most_bytes: int = 16384) -> str:
        """The last lines of a file, as text."""
        try:
            with (self.folder / name).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - most_bytes, 0))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    # -- writing ------------------------------------------------------------------------------

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write a file whole or not at all; return its path.

        What concludes is published first, where other hosts read it.

        Raises:
            OSError: When it cannot be written; the file is as it was before.
            LostError: When it concludes, and the environment may be another's.
        """
        path, clean = self.folder / name, self.redactor.data(data)
        if name in CONCLUDING and self.holding.conclude(name, clean):
            return path
        if path.parent != self.folder:
            path.parent.mkdir(exist_ok=True)
        write_whole(path, clean)
        self.holding.written()
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file whole or not at all; return its path."""
        return self.write_bytes(name, text.encode("utf-8", "replace"))

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

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
        self.append(_FILE_OF[type(row)], row.to_json_object())
        self.holding.publish()

    def add_warning(self, warning: RolloutWarning) -> None:
        """Add a warning that the summary will show."""
        self.append(layout.WARNINGS, warning.model_dump())

    def append(self, name: str, row: Mapping[str, object]) -> None:
        """Add a row to a file of rows."""
        append_row(self.folder / name, self._clean(dict(row)))
        self.holding.written()

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redactor.text(value)
        if isinstance(value, dict):
            return {self._clean(key): self._clean(item) for key, item in value.items()}
        return [self._clean(item) for item in value] if isinstance(value, (list, tuple)) else value

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

    def open_log(self, name: str) -> Log:
        """Open a command's log, emptied, for writing as the command runs."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        return Log(path.open("wb", buffering=0), self.redactor)

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

    # -- steps in flight ----------------------------------------------------------------------

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

    def in_flight(self, step: str) -> InFlight | None:
        """What a step that has begun and not ended was doing, or None."""
        return _read_in_flight(self.folder / layout.in_flight(step))

    def all_in_flight(self) -> Sequence[InFlight]:
        """Every step that has begun and not ended."""
        paths = sorted((self.folder / layout.IN_FLIGHT).glob("*.json"))
        states = (_read_in_flight(path) for path in paths)
        return [state for state in states if state is not None]

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


_FILE_OF: dict[type[Row], str] = {
    GateRow: layout.GATE_RESULTS,
    CohortRow: layout.COHORT_RESULTS,
    RollbackRow: layout.ROLLBACK_RESULTS,
}


def rollout_folders(root: Path) -> list[Path]:
    """The folders directly below a root that hold a `rollout.json`, in no particular order.

    One that cannot be looked into is among them, since nobody can say that it holds none.

    Raises:
        OSError: When the root itself cannot be listed.
    """
    with os.scandir(root) as entries:
        return [Path(entry.path) for entry in entries if _may_hold_a_rollout(entry)]


def _may_hold_a_rollout(entry: "os.DirEntry[str]") -> bool:
    try:
        os.lstat(f"{entry.path}/{layout.HEADER}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return entry.is_dir(follow_symlinks=False)
    return True


def _strangers(record: Record) -> list[Problem]:
    """A problem for each file with rows of what the header does not know."""
    header = record.header
    known = {(attempt.attempt, attempt.run_id) for attempt in header.attempts}
    strange = {
        (_FILE_OF[type(row)], "an attempt")
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


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, bool]]:
    """The names of all that a folder holds, links not followed, and whether each is a file."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield prefix or ".", False
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry.is_file(follow_symlinks=False)


def _read_in_flight(path: Path) -> InFlight | None:
    try:
        return InFlight.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
