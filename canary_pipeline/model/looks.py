"""One look at staging while a cohort soaks, what is enforced, and whether the look is good.

A look is good if all that is enforced was asked and answered in time:

| enforced | good |
| --- | --- |
| limits | the metrics answered 2xx and a JSON object, in which every limited name is a finite |
| | number, and every level is within its limit |
| percents | the routing status answered 200; percents and shadow are what is wanted |
| probes | evaluate answered 200. The probe is the first evaluate, so that the first look may go |
| | without one, and every look of a soak that is shorter than an interval |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from canary_pipeline.model.limits import (
    MOST_NUMBERS_OF_A_LOOK,
    Limit,
    amount,
    unknown_name,
)
from canary_pipeline.model.rows import AttemptNumber, Routing, Row

PATIENCE_SECONDS = 60.0
HTTP_SUCCESS = range(200, 300)
HTTP_OK = 200

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Status = int | Annotated[str, Field(max_length=100)]
"""An HTTP status, or the word for why there was no answer in time."""

FailedReason = Literal[
    "limit_exceeded", "health_unknown", "percent_drifted", "probe_failed_in_soak"
]


class Look(Row):
    """One look at staging during a soak: a row of `health-<p>.jsonl`.

    Attributes:
        soak: Which soak of the cohort, from 1: one that cannot go on after a kill starts anew.
        number: From 1; 0 where limits still wait for the first good look.
        at: When it was asked.
        elapsed_seconds: When it was asked, in monotonic seconds since look 1 of the soak; of a
            look 0, since the first of those.
        metrics: How the runtime metrics answered; None where they were not asked.
        numbers: By dotted path; None where the answer was no JSON object.
        routing: How the routing status answered; None where it was not asked.
        live: What it said was live, where it could be read.
        evaluate: How evaluate answered for the cohort's thread; None where it was not asked.
    """

    soak: Annotated[int, Field(ge=1)]
    number: Annotated[int, Field(ge=0)]
    at: str
    elapsed_seconds: Seconds
    metrics: Status | None = None
    numbers: Annotated[dict[str, Finite], Field(max_length=MOST_NUMBERS_OF_A_LOOK)] | None = None
    routing: Status | None = None
    live: Routing | None = None
    evaluate: Status | None = None
    attempt: AttemptNumber
    run_id: str

    @classmethod
    def optional_keys(cls) -> frozenset[str]:
        """What was not asked, or not told, is left out."""
        return frozenset({"metrics", "numbers", "routing", "live", "evaluate"})

    @property
    def was_answered(self) -> bool:
        """Whether everything that was asked was answered with success."""
        asked = (self.metrics, self.routing, self.evaluate)
        return all(status in HTTP_SUCCESS for status in asked if status is not None)

    @property
    def measured(self) -> Mapping[str, float]:
        """The numbers that this look may be judged by."""
        return self.numbers or {} if self.metrics in HTTP_SUCCESS else {}


@dataclass(frozen=True)
class Watch:
    """What is enforced while a cohort soaks.

    Attributes:
        limits: The operator's.
        wanted: What is to be live throughout; None where the rollout does not apply its percents.
        probes_live: Whether the cohort's thread is evaluated.
        soak_seconds: How long the soak is to last.
        interval_seconds: From look to look.
    """

    limits: tuple[Limit, ...]
    wanted: Routing | None
    probes_live: bool
    soak_seconds: float
    interval_seconds: float

    @property
    def patience_seconds(self) -> float:
        """How long limits do without a good look."""
        return min(PATIENCE_SECONDS, self.soak_seconds)


@dataclass(frozen=True)
class LookProblem:
    """Why a look is not good: in what respect, and a sentence."""

    kind: Literal["answer", "name", "level", "percent", "probe"]
    text: str

    @property
    def reason(self) -> FailedReason:
        """What a soak that never gets over it fails with."""
        reasons: dict[str, FailedReason] = {
            "level": "limit_exceeded",
            "percent": "percent_drifted",
            "probe": "probe_failed_in_soak",
        }
        return reasons.get(self.kind, "health_unknown")


def problem_of(watch: Watch, look: Look) -> LookProblem | None:
    """Why a look is not good; None where it is."""
    measuring = _measuring_problem(watch.limits, look) if watch.limits else None
    return measuring or percent_problem(watch, look) or probe_problem(watch, look)


def _measuring_problem(limits: Sequence[Limit], look: Look) -> LookProblem | None:
    if not isinstance(look.metrics, int):
        return LookProblem("answer", "no answer")
    if look.metrics not in HTTP_SUCCESS:
        return LookProblem("answer", f"the metrics answered {look.metrics}")
    if look.numbers is None:
        return LookProblem("answer", "the metrics were no JSON object")
    if (unknown := unknown_name(limits, look.numbers)) is not None:
        return LookProblem("name", unknown)
    for limit in limits:
        if not limit.growth and look.numbers[limit.name] > limit.number:
            level = amount(look.numbers[limit.name])
            return LookProblem("level", f"{limit.name} is {level}; {limit.bound_in_words}")
    return None


def percent_problem(watch: Watch, look: Look) -> LookProblem | None:
    """Why a look does not show the percents and the shadow live; None where it does."""
    if watch.wanted is None:
        return None
    if look.live is None or look.routing != HTTP_OK:
        told = "not asked" if look.routing is None else look.routing
        return LookProblem("percent", f"what is live could not be read ({told})")
    if not is_live(watch.wanted, look.live):
        return LookProblem("percent", f"live is {look.live}; wanted {watch.wanted}")
    return None


def is_live(wanted: Routing, found: Routing) -> bool:
    """Whether what was found is what is wanted; of a shadow that is off the rate says nothing."""
    percents = found.user_percent, found.autopilot_percent, found.shadow_enabled
    return percents == (wanted.user_percent, wanted.autopilot_percent, wanted.shadow_enabled) and (
        not wanted.shadow_enabled or found.shadow_sample_rate == wanted.shadow_sample_rate
    )


def probe_problem(watch: Watch, look: Look) -> LookProblem | None:
    """Why a look does not show that evaluate answers; None where it does, or need not."""
    if not watch.probes_live or look.evaluate == HTTP_OK:
        return None
    if look.evaluate is not None:
        return LookProblem("probe", f"evaluate answered {look.evaluate}")
    may_be_left_out = look.number <= 1 or watch.soak_seconds < watch.interval_seconds
    return None if may_be_left_out else LookProblem("probe", "evaluate was not asked")
