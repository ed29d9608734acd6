"""Which percents are live: asked of the control service, and waited for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from canary_pipeline.model.looks import is_live
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.rows import LiveRouting, Routing
from canary_pipeline.outside.answers import HTTP_OK, Answer, Failure
from canary_pipeline.rollout.context import Context

LOOK_UP_SECONDS = 0.25

PERCENT_NOT_LIVE = "percent_not_live"
SHADOW_NOT_LIVE = "shadow_not_live"
FORCED_OFF = "canary_forced_off"


@dataclass(frozen=True)
class Observation:
    """What staging showed when it was asked what is live.

    Attributes:
        live: What it showed last, or None where it never could be read.
        problem: Why that is not what was wanted; None where it is.
        detail: The problem as a sentence.
    """

    live: LiveRouting | None
    problem: str | None = None
    detail: str | None = None


def look(context: Context) -> LiveRouting | str:
    """Ask once what is live; returns a sentence where that cannot be read."""
    answer = context.control.routing_status()
    if isinstance(answer, Failure):
        return answer.message
    if answer.status != HTTP_OK:
        return f"the routing status answered {answer.status}"
    live = routing_of(answer, rfc3339(context.clock.now()))
    return live or "the routing status answered something else than the percents"


def routing_of(answer: Answer, seen_at: str) -> LiveRouting | None:
    """What an answer of the routing status says is live; None where it says something else."""
    try:
        data = (answer.json_object() or {})["data"]
        return LiveRouting(
            user_percent=data["canary_user_percent"],
            autopilot_percent=data["canary_autopilot_percent"],
            shadow_enabled=data["shadow"]["enabled"],
            shadow_sample_rate=data["shadow"]["sample_rate"],
            seen_at=seen_at,
            forced=_forced(data),
        )
    except (KeyError, TypeError, ValidationError):
        return None


def _forced(data: Any) -> str | None:
    """What sends everybody past the canary, whatever its percents."""
    if data.get("force_control_service") is True:
        return "force_control_service"
    driver = data.get("forced_driver")
    return f"forced_driver {driver}"[:80] if isinstance(driver, str) and driver else None


def await_live(wanted: Routing, seconds: float, context: Context) -> Observation:
    """Ask until what is wanted is live, or time is up; a restarting service is waited for."""
    return _ask(wanted, seconds, context, lambda seen: seen.problem is None)


def await_answer(wanted: Routing, seconds: float, context: Context) -> Observation:
    """Ask what is live now; only where there is no answer is it asked for again."""
    return _ask(wanted, seconds, context, lambda seen: seen.live is not None)


def _ask(
    wanted: Routing,
    seconds: float,
    context: Context,
    is_enough: Callable[[Observation], bool],
) -> Observation:
    deadline = context.clock.monotonic() + seconds
    while True:
        context.check_stop()
        seen = compare(wanted, look(context))
        if is_enough(seen) or context.clock.monotonic() >= deadline:
            return seen
        context.clock.sleep(LOOK_UP_SECONDS)


def compare(wanted: Routing, found: LiveRouting | str) -> Observation:
    """Whether what was found is what is wanted."""
    if isinstance(found, str):
        return Observation(None, PERCENT_NOT_LIVE, f"what is live could not be read: {found}")
    if is_live(wanted, found):
        return Observation(found)
    percents = (found.user_percent, found.autopilot_percent)
    as_wanted = percents == (wanted.user_percent, wanted.autopilot_percent)
    problem = SHADOW_NOT_LIVE if as_wanted else PERCENT_NOT_LIVE
    return Observation(found, problem, f"live is {found}; wanted {wanted}")


def forced_off(wanted: Routing, seen: Observation) -> Observation:
    """The same, with a problem where nobody is in the canary although its percents are live."""
    if seen.problem is None and seen.live is not None and seen.live.forced and wanted.user_percent:
        detail = f"nobody is in the canary: {seen.live.forced} is set"
        return Observation(seen.live, FORCED_OFF, detail)
    return seen
