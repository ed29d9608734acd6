"""What a step needs besides its plan."""

from collections.abc import Callable
from dataclasses import dataclass, field

from canary_pipeline.model.rows import RolloutWarning
from canary_pipeline.outside.clock import Clock, SystemClock, rfc3339
from canary_pipeline.outside.token import Redactor
from canary_pipeline.store.folder import Evidence


@dataclass(frozen=True)
class Surroundings:
    """Where a step writes, who it is, and how it tells.

    Attributes:
        evidence: The rollout's folder.
        attempt: Which attempt at the rollout this is, from 1.
        run_id: The Dagster run of this attempt.
        redactor: Keeps the token out of what is written.
        say: Takes one line for the log book.
        check_owner: Raises when the process that owns this rollout is gone.
        clock: Time.
    """

    evidence: Evidence
    attempt: int
    run_id: str
    redactor: Redactor
    say: Callable[[str], None] = lambda _line: None
    check_owner: Callable[[], None] = lambda: None
    clock: Clock = field(default_factory=SystemClock)

    def warn(self, step: str, message: str) -> None:
        """Add a warning that the summary will show, and tell the log book."""
        message = self.redactor.text(message)
        self.evidence.add_warning(
            RolloutWarning(
                step=step,
                message=message,
                at=rfc3339(self.clock.now()),
                attempt=self.attempt,
                run_id=self.run_id,
            )
        )
        self.say(f"warning, {step}: {message}")
