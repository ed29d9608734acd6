"""What a step needs: the plan, where it writes, whom it asks, and how it tells."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.plan import Plan
from canary_pipeline.model.record import InFlight
from canary_pipeline.model.rows import CohortRow, RolloutWarning
from canary_pipeline.outside.clock import Clock, SystemClock
from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.outside.process_group import Stopping
from canary_pipeline.store.folder import Evidence


@dataclass(frozen=True)
class Context:
    """One attempt at a rollout, as its steps see it.

    Attributes:
        plan: What the rollout does.
        evidence: The rollout's folder.
        control: Staging, as far as it can be asked.
        attempt: Which attempt at the rollout this is, from 1.
        run_id: The run of this attempt.
        say: Takes one line for the log.
        check_stop: Raises when the step is not to go on; asked several times a second.
        clock: Time.
        stopping: Commands that were stopped and have not ended yet.
        signing_key: What signs its decision; None where nothing does.
        began: When the attempt began, by the monotonic clock; None where another process began it.
    """

    plan: Plan
    evidence: Evidence
    control: ControlService
    attempt: int
    run_id: str
    say: Callable[[str], None] = lambda _line: None
    check_stop: Callable[[], None] = lambda: None
    clock: Clock = field(default_factory=SystemClock)
    stopping: list[Stopping] = field(default_factory=list)
    signing_key: Path | None = None
    began: float | None = None

    def warn(self, step: str, message: str) -> None:
        """Add a warning that the summary will show, and tell the log."""
        warning = RolloutWarning(
            step=step,
            message=message,
            at=rfc3339(self.clock.now()),
            attempt=self.attempt,
            run_id=self.run_id,
        )
        self.evidence.add_warning(warning)
        self.tell(f"warning, {step}: {message}")

    def tell(self, line: str) -> None:
        """Tell the log, without any secret."""
        self.say(self.evidence.redactor.text(line))

    def note(self, step: str, phase: str, **more: object) -> InFlight:
        """Record what a step is doing now."""
        now = rfc3339(self.clock.now())
        state = InFlight(
            step=step,
            phase=phase,
            started_at=now,
            attempt=self.attempt,
            run_id=self.run_id,
            noted_at=now,
        ).model_copy(update=more)
        self.evidence.set_in_flight(state)
        return state


@dataclass(frozen=True)
class Cohort:
    """One cohort of a rollout that is under way: what it is, and how it tells."""

    percent: int
    context: Context

    @property
    def step(self) -> str:
        """The cohort's name as a step."""
        return f"cohort {self.percent}"

    @property
    def plan(self) -> Plan:
        """What the rollout does."""
        return self.context.plan

    def say(self, message: str) -> None:
        """Tell the log."""
        self.context.tell(f"{self.step}: {message}")

    def warn(self, message: str) -> None:
        """Add a warning that the summary will show."""
        self.context.warn(self.step, message)

    def note(self, phase: str, **more: object) -> InFlight:
        """Record what the cohort is doing now."""
        return self.context.note(self.step, phase, **more)

    def row(self, **values: Any) -> CohortRow:
        """A row of this cohort and this attempt."""
        context = self.context
        return CohortRow(
            cohort_percent=self.percent, attempt=context.attempt, run_id=context.run_id, **values
        )
