"""The folder of one rollout: rows, files and state. The only module that touches it.

Every file is written whole (a temporary file, then a rename) and every row in one piece under a
lock, so that a reader never sees half of either, whenever the writer is killed.
"""

import fcntl
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from canary_pipeline.model.plan import SnapshotKind
from canary_pipeline.model.rows import (
    ALL_GATES,
    CohortRow,
    GateRow,
    Header,
    InFlight,
    RollbackRow,
    RolloutWarning,
)

HEADER = "rollout.json"
GATE_RESULTS = "gate-results.jsonl"
COHORT_RESULTS = "cohort-results.jsonl"
ROLLBACK_RESULTS = "rollback-results.jsonl"
RESULTS = (GATE_RESULTS, COHORT_RESULTS, ROLLBACK_RESULTS)
WARNINGS = "warnings.jsonl"
ENV_SEQUENCE = "canary-env-sequence.txt"
SUMMARY = "SUMMARY.md"
TIMELINE = "timeline.png"
LOGS = "logs"
ENV_FILES = "env"
IN_FLIGHT = "in-flight"

LINK_DIGITS = 32
"""Hexadecimal digits of a chain's link: 128 bits."""

RowModel = TypeVar("RowModel", bound=BaseModel)


class NotARolloutError(Exception):
    """A folder holds no readable rollout."""


@dataclass(frozen=True)
class Problem:
    """Evidence that is missing or cannot be believed.

    Attributes:
        file: The file, relative to the rollout's folder.
        message: What is wrong with it.
    """

    file: str
    message: str


@dataclass(frozen=True)
class Record:
    """Everything that the decision and the summary read, as the folder held it at one moment."""

    header: Header
    gate_rows: tuple[GateRow, ...]
    cohort_rows: tuple[CohortRow, ...]
    warnings: tuple[RolloutWarning, ...]
    problems: tuple[Problem, ...]
    rollback_rows: tuple[RollbackRow, ...] = ()

    def last_gate_row(self, gate: str) -> GateRow | None:
        """The row of this gate that counts: its last."""
        return next((row for row in reversed(self.gate_rows) if row.gate == gate), None)

    def last_cohort_row(self, percent: int) -> CohortRow | None:
        """The row of this cohort that counts: its last."""
        rows = reversed(self.cohort_rows)
        return next((row for row in rows if row.cohort_percent == percent), None)

    @property
    def gates_were_skipped(self) -> bool:
        """Whether a row says that no gate ran."""
        return any(row.gate == ALL_GATES for row in self.gate_rows)


def snapshot_name(kind: SnapshotKind, moment: str) -> str:
    """The file of a snapshot.

    Args:
        kind: What was read.
        moment: `before`, `after`, `before_<p>` or `after_<p>`.
    """
    return f"{kind}_{moment}.json"


def response_name(percent: int) -> str:
    """The file of a cohort's probe response."""
    return f"cohort-{percent}.json"


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
        os.lstat(f"{entry.path}/{HEADER}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return entry.is_dir(follow_symlinks=False)
    return True


class Evidence:
    """One rollout's folder."""

    def __init__(self, folder: Path) -> None:
        """Look at a folder; nothing is read or written yet.

        Args:
            folder: The rollout's folder, absolute.
        """
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, header: Header) -> "Evidence":
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
        evidence = cls(folder)
        (folder / LOGS).mkdir()
        evidence.write_model(HEADER, header)
        return evidence

    # -- reading ------------------------------------------------------------------------------

    def header(self) -> Header:
        """Read `rollout.json`.

        Raises:
            NotARolloutError: When it is missing or cannot be read.
        """
        try:
            return Header.model_validate_json((self.folder / HEADER).read_bytes())
        except FileNotFoundError:
            message = f"{self.folder} holds no {HEADER}"
            raise NotARolloutError(message) from None
        except (OSError, ValidationError) as error:
            message = f"{self.folder / HEADER} cannot be read: {_first_line(error)}"
            raise NotARolloutError(message) from None

    def record(self) -> Record:
        """Read every row; what cannot be read becomes a problem.

        Raises:
            NotARolloutError: When `rollout.json` cannot be read.
        """
        problems: list[Problem] = []
        gate_rows = self._rows(GATE_RESULTS, GateRow, problems)
        cohort_rows = self._rows(COHORT_RESULTS, CohortRow, problems)
        rollback_rows = self._rows(ROLLBACK_RESULTS, RollbackRow, problems)
        warnings = self._rows(WARNINGS, RolloutWarning, [])
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

        Each row holds a link of a hash chain over its file, and the SHA-256 of the log or the
        response that it speaks of.

        Raises:
            NotARolloutError: When `rollout.json` cannot be read.
        """
        record = self.record()
        claims: list[tuple[str, str]] = []
        for gate in record.header.gates:
            row = record.last_gate_row(gate.name)
            if row and row.log_file and row.log_sha256:
                claims.append((row.log_file, row.log_sha256))
        for percent in record.header.cohorts:
            cohort = record.last_cohort_row(percent)
            if cohort and cohort.response_file and cohort.response_sha256:
                claims.append((cohort.response_file, cohort.response_sha256))
            if cohort and cohort.apply_log_file and cohort.apply_log_sha256:
                claims.append((cohort.apply_log_file, cohort.apply_log_sha256))
        found = [
            Problem(name, "is missing or is not the file that its row was written for")
            for name, digest in claims
            if self.sha256(name) != digest
        ]
        for name in RESULTS:
            found += self._chain_problems(name, record.header.sealed)
        return replace(record, problems=(*record.problems, *found))

    def _rows(self, name: str, model: type[RowModel], problems: list[Problem]) -> list[RowModel]:
        try:
            data = (self.folder / name).read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            problems.append(Problem(name, f"cannot be read: {error.strerror}"))
            return []
        rows = []
        for number, line in enumerate(_lines(data), start=1):
            if not line.endswith(b"\n"):
                break  # a row that is being written, or was when its writer was killed
            try:
                rows.append(model.model_validate_json(line))
            except ValidationError:
                problems.append(Problem(name, f"line {number} is not a row"))
        return rows

    def _chain_problems(self, name: str, sealed: Mapping[str, str]) -> list[Problem]:
        """What shows that rows were changed, removed or added by somebody else."""
        try:
            lines = _lines((self.folder / name).read_bytes())
        except OSError:
            lines = []
        chain, seen = "", {""}
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            if _chain_of(line) != _link(chain, line):
                return [Problem(name, f"line {number} is not as it was written, or one is missing")]
            chain = _chain_of(line)
            seen.add(chain)
        if sealed.get(name, "") not in seen:
            return [Problem(name, "has lost rows that an earlier attempt wrote")]
        return []

    def seal(self, sealed: Mapping[str, str]) -> dict[str, str]:
        """The last link of each file of rows: what proves later that none was lost.

        Args:
            sealed: The links before; a file that does not hold its link any more keeps it.
        """
        return {
            name: sealed.get(name, "")
            if self._chain_problems(name, sealed)
            else self._last_link(name)
            for name in RESULTS
        }

    def _last_link(self, name: str) -> str:
        """The link of the last whole row; an empty string where there is none."""
        try:
            whole, _, _ = (self.folder / name).read_bytes().rpartition(b"\n")
        except OSError:
            return ""
        return _chain_of(whole.rpartition(b"\n")[2]) if whole else ""

    def exists(self, name: str) -> bool:
        """Whether the folder holds a file of this name."""
        return (self.folder / name).is_file()

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

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            OSError: When it cannot be written; the file is as it was before.
        """
        path = self.folder / name
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write a text file whole or not at all."""
        self.write_bytes(name, text.encode("utf-8"))

    def write_model(self, name: str, model: BaseModel) -> None:
        """Write a JSON file whole or not at all."""
        self.write_text(name, model.model_dump_json(indent=2) + "\n")

    def add_gate_row(self, row: GateRow) -> None:
        """Add a gate's row."""
        self._append(GATE_RESULTS, row.to_json_object())

    def add_cohort_row(self, row: CohortRow) -> None:
        """Add a cohort's row."""
        self._append(COHORT_RESULTS, row.to_json_object())

    def add_rollback_row(self, row: RollbackRow) -> None:
        """Add a rollback's row."""
        self._append(ROLLBACK_RESULTS, row.to_json_object())

    def write_env_file(self, name: str, text: str) -> Path:
        """Write the variables that a command is to make live; return the file's path."""
        (self.folder / ENV_FILES).mkdir(exist_ok=True)
        self.write_text(f"{ENV_FILES}/{name}", text)
        return self.folder / ENV_FILES / name

    def add_warning(self, warning: RolloutWarning) -> None:
        """Add a warning that the summary will show."""
        self._append(WARNINGS, warning.model_dump())

    def _append(self, name: str, row: dict[str, object]) -> None:
        with (self.folder / name).open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = _drop_torn_row(file)
            line = _json_line(row)
            line = _json_line({**row, "chain": _link(self._last_link(name), line)})
            try:
                _write_all(file, line)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise

    def update_header(self, change: Callable[[Header], Header]) -> Header:
        """Change `rollout.json` under a lock, and return it as it is now.

        Raises:
            NotARolloutError: When it cannot be read.
            OSError: When it cannot be written.
        """
        with self._locked():
            header = change(self.header())
            self.write_model(HEADER, header)
            return header

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def open_log(self, name: str) -> BinaryIO:
        """Open a gate's log, emptied, for writing as the gate runs."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        return path.open("wb", buffering=0)

    # -- steps in flight ----------------------------------------------------------------------

    def set_in_flight(self, state: InFlight) -> None:
        """Record what a step is doing now."""
        (self.folder / IN_FLIGHT).mkdir(exist_ok=True)
        self.write_model(_in_flight_name(state.step), state)

    def clear_in_flight(self, step: str) -> None:
        """Forget a step that has ended; the folder of such steps goes with the last one."""
        (self.folder / _in_flight_name(step)).unlink(missing_ok=True)
        with suppress(OSError):
            (self.folder / IN_FLIGHT).rmdir()

    def in_flight(self, step: str) -> InFlight | None:
        """What a step that has begun and not ended was doing, or None."""
        return self._read_in_flight(self.folder / _in_flight_name(step))

    def all_in_flight(self) -> Sequence[InFlight]:
        """Every step that has begun and not ended."""
        paths = sorted((self.folder / IN_FLIGHT).glob("*.json"))
        states = (self._read_in_flight(path) for path in paths)
        return [state for state in states if state is not None]

    def tidy(self) -> None:
        """Remove what killed steps left, before another attempt; a soak's deadline stays.

        Only a cohort that was killed in its soak has something that must outlive it.
        """
        record = self.record()
        for state in self.all_in_flight():
            probe = state.probe
            last = record.last_cohort_row(probe.cohort_percent) if probe else None
            if probe is None or (last is not None and last.attempt >= state.attempt):
                self.clear_in_flight(state.step)
        for partial in [*self.folder.glob(".*-*"), *(self.folder / IN_FLIGHT).glob(".*-*")]:
            partial.unlink(missing_ok=True)

    @staticmethod
    def _read_in_flight(path: Path) -> InFlight | None:
        try:
            return InFlight.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None


def _in_flight_name(step: str) -> str:
    return f"{IN_FLIGHT}/{step.replace(' ', '-')}.json"


def _lines(data: bytes) -> list[bytes]:
    """The rows with their line ends; the last may be torn and have none."""
    return io.BytesIO(data).readlines()


def _json_line(row: Mapping[str, object]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _chain_of(line: bytes) -> str:
    """The link that a row holds, or a word that no row can hold."""
    try:
        return str(json.loads(line)["chain"])
    except (ValueError, KeyError, TypeError):
        return "none"


def _link(previous: str, line: bytes) -> str:
    """The link of a row: a digest of the link before it and of all that the row says."""
    try:
        row = json.loads(line)
        row.pop("chain", None)
    except (ValueError, AttributeError, TypeError):
        return "broken"
    return sha256(previous.encode() + _json_line(row)).hexdigest()[:LINK_DIGITS]


def _drop_torn_row(file: BinaryIO) -> int:
    """Cut off a last row without its line end, left by a killed writer; return the new size."""
    size = file.seek(0, os.SEEK_END)
    position = size
    while position > 0:
        position -= 1
        file.seek(position)
        if file.read(1) == b"\n":
            position += 1
            break
    if position != size:
        file.truncate(position)
    return position


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write until everything is written: a nearly full disk takes a part before it refuses."""
    while data:
        data = data[file.write(data) :]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
