"""What a rollout's folder holds at one moment: its header, and of each step the row that counts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from canary_pipeline.model.moment import moment_of, plausible, seconds_between
from canary_pipeline.model.plan import Gate, Percent, Plan, Recorded
from canary_pipeline.model.rows import (
    ALL_GATES,
    CohortRow,
    GateRow,
    LiveRouting,
    RollbackRow,
    RolloutWarning,
)

AttemptOutcome = Literal["finished", "aborted", "crashed"]


class Attempt(Recorded):
    """One run that worked on a rollout.

    Attributes:
        gates_to_run: The gates that this attempt runs. Of others what was seen before counts, if
            anything of it does.
        anew: Whether nothing of earlier attempts counts, since they saw another commit.
        commit: The commit of the checkout when the attempt began; None where unknown.
        commit_after: The one when it ended, where that is another.
        dirty: Whether the checkout had uncommitted changes at either time.
        outcome: None while the attempt is under way, and for ever if it was killed.
        detail: What ended it, where it did not finish.
        duration_seconds: How long it took, by a monotonic clock; None as older versions wrote it.
        claim_token: The token of the environment's lease; absent on one machine.
    """

    attempt: int
    run_id: str
    launched_by: str
    started_at: str
    gates_to_run: tuple[str, ...]
    anew: bool = False
    commit: str | None = None
    commit_after: str | None = None
    dirty: bool | None = None
    ended_at: str | None = None
    outcome: AttemptOutcome | None = None
    detail: str | None = None
    duration_seconds: float | None = None
    claim_token: int | None = Field(default=None, exclude_if=lambda token: token is None)


class Header(Plan):
    """`rollout.json`: what this rollout was to do, and how far it is. Holds no secret.

    Attributes:
        commit: The commit of the checkout when it started; None where it has none.
        dirty: Whether the checkout had uncommitted changes.
        versions: By component.
        url_digests: By URL setting, a keyed digest of the whole URL: that it is still the same.
        folder: The rollout's folder as it was first written.
        live_before: What was live before the first cohort was applied; None before that, and
            again once it is restored.
        applied_percent: The cohort that was applied last, as far as `live_before` is set.
        restoring: Whether a rollback has begun since: what was applied may not be live any more.
        sealed: By file of rows, the last link of its hash chain when the last attempt ended.
        decided_at: When the decision was written last.
        withdrawn: Why its decision does not hold any more, such as another rollout's changes.
    """

    started_at: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    url_digests: dict[str, str] = Field(default_factory=dict)
    folder: str = ""
    live_before: LiveRouting | None = None
    applied_percent: Percent | None = None
    restoring: bool = False
    attempts: tuple[Attempt, ...] = ()
    sealed: dict[str, str] = Field(default_factory=dict)
    decided_at: str | None = None
    withdrawn: str | None = None

    @property
    def plan(self) -> Plan:
        """What the rollout does, as it was recorded."""
        return Plan(**{name: getattr(self, name) for name in Plan.model_fields})

    @property
    def run_ids(self) -> list[str]:
        """The runs that worked on this rollout, oldest first."""
        return [attempt.run_id for attempt in self.attempts]

    @property
    def last_attempt(self) -> Attempt | None:
        """The newest attempt, or None before the first."""
        return self.attempts[-1] if self.attempts else None

    @property
    def counts_from(self) -> int:
        """The first attempt whose rows count: the last one that did everything anew."""
        return max((item.attempt for item in self.attempts if item.anew), default=1)

    def with_last_attempt(self, **changes: object) -> "Header":
        """The header with its newest attempt changed."""
        *before, last = self.attempts
        attempts = (*before, last.model_copy(update=changes))
        return self.model_copy(update={"attempts": attempts})


class InFlight(Recorded):
    """What a step that has begun and not ended leaves for whoever looks, or comes after it.

    Attributes:
        step: Such as `gate spacetime-chaos` or `cohort 25`.
        phase: Such as `running`, `apply`, `verify`, `probe`, `soak`.
        probe: The cohort's row so far, once its probe has passed.
        soak_ends_at: When the soak is to end by the wall clock: for people.
        soaked_seconds: How much of the soak is done, by a monotonic clock.
        soak: Which soak of the cohort it is, as its looks say; absent where none has begun, and as
            older versions wrote it.
        noted_at: When that was noted.
        said: What there is to tell of it, such as what the last look has shown.
    """

    step: str
    phase: str
    started_at: str
    attempt: int
    run_id: str
    probe: CohortRow | None = None
    soak_ends_at: str | None = None
    soaked_seconds: float | None = None
    soak: int | None = Field(default=None, exclude_if=lambda soak: soak is None)
    noted_at: str | None = None
    said: str | None = None


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
    """Everything that the decision and the reports read, as the folder held it at one moment."""

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
    def gates(self) -> tuple[tuple[Gate, GateRow | None], ...]:
        """Every gate of the rollout, in order, with the row that counts."""
        return tuple((gate, self.last_gate_row(gate.name)) for gate in self.header.gates)

    @property
    def cohorts(self) -> tuple[tuple[int, CohortRow | None], ...]:
        """Every cohort of the rollout, in order, with the row that counts."""
        return tuple((percent, self.last_cohort_row(percent)) for percent in self.header.cohorts)

    @property
    def last_rollback(self) -> RollbackRow | None:
        """The newest attempt to restore staging, or None."""
        return self.rollback_rows[-1] if self.rollback_rows else None

    @property
    def rows(self) -> tuple[GateRow | CohortRow | RollbackRow, ...]:
        """Every row, file by file."""
        return (*self.gate_rows, *self.cohort_rows, *self.rollback_rows)

    @property
    def duration_seconds(self) -> float | None:
        """Seconds that the attempts took together; None while the last one is under way.

        By a monotonic clock; where an older version noted only moments, and a clock was set back,
        at least what the longest gate took, and the cohorts one after another.
        """
        last = self.header.last_attempt
        if last is None or last.ended_at is None:
            return None
        total = sum(map(_attempt_seconds, self.header.attempts))
        gates = max((plausible(row.duration_seconds) for _, row in self.gates if row), default=0.0)
        cohorts = sum(plausible(row.duration_seconds) for _, row in self.cohorts if row)
        return round(max(total, gates + cohorts), 3)

    @property
    def tested_until(self) -> datetime | None:
        """The latest moment at which a row that counts saw something; None where none tells one.

        An attempt that has nothing left to run does not move it.
        """
        # A gate that judges another environment runs at every attempt, and sees nothing of this.
        gates = [row.finished_at for gate, row in self.gates if row and not gate.after]
        cohorts = [row.soak_ended_at or row.probed_at for _, row in self.cohorts if row]
        return max(filter(None, map(moment_of, (*gates, *cohorts))), default=None)

    @property
    def gates_were_skipped(self) -> bool:
        """Whether a row says that no gate ran."""
        return any(row.gate == ALL_GATES for row in self.gate_rows)


def _attempt_seconds(attempt: Attempt) -> float:
    if attempt.duration_seconds is not None:
        return plausible(attempt.duration_seconds)
    return plausible(seconds_between(attempt.started_at, attempt.ended_at) or 0.0)
