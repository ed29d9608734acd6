"""One cohort of a rollout that is under way: what it is, and what it tells while it runs."""

from dataclasses import dataclass
from datetime import datetime

from canary_pipeline.model.plan import Plan
from canary_pipeline.model.rows import CohortRow, InFlight
from canary_pipeline.outside.clock import rfc3339
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.rollout.context import Surroundings


@dataclass(frozen=True)
class Cohort:
    """One cohort of a rollout that is under way."""

    percent: int
    plan: Plan
    control_plane: ControlPlane
    around: Surroundings

    @property
    def step(self) -> str:
        """The cohort's name in the log book."""
        return f"cohort {self.percent}"

    def say(self, message: str) -> None:
        """Tell the log book."""
        self.around.say(f"{self.step}: {message}")

    def warn(self, message: str) -> None:
        """Add a warning that the summary will show."""
        self.around.warn(self.step, message)

    def note_phase(
        self, phase: str, row: CohortRow | None = None, soak_ends_at: datetime | None = None
    ) -> None:
        """Record what the cohort is doing now.

        Args:
            phase: Such as `probe` or `soak`.
            row: The row so far, once the probe has passed.
            soak_ends_at: When the soak ends.
        """
        around = self.around
        around.evidence.set_in_flight(
            InFlight(
                step=self.step,
                phase=phase,
                started_at=rfc3339(around.clock.now()),
                attempt=around.attempt,
                run_id=around.run_id,
                probe=row,
                soak_ends_at=rfc3339(soak_ends_at) if soak_ends_at else None,
            )
        )
