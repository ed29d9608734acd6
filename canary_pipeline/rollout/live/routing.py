"""Which percents are live: asked of the control service, and waited for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from canary_pipeline.model.rows import LiveRouting, Routing
from canary_pipeline.outside.answers import HTTP_OK, Failure
from canary_pipeline.outside.clock import rfc3339
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.rollout.context import Surroundings

LOOK_UP_SECONDS = 0.25

PERCENT_NOT_LIVE = "percent_not_live"
SHADOW_NOT_LIVE = "shadow_not_live"


@dataclass(frozen=True)
class Seen:
    """What staging showed when it was asked what is live.

    Attributes:
        live: What it showed last, or None where it never could be read.
        problem: Why that is not what was wanted; None where it is.
        detail: The problem as a sentence.
    """

    live: LiveRouting | None
    problem: str | None = None
    detail: str | None = None


def look(control_plane: ControlPlane, around: Surroundings) -> LiveRouting | str:
    """Ask once what is live; returns a sentence where that cannot be read."""
    answer = control_plane.routing_status()
    if isinstance(answer, Failure):
        return around.redactor.text(answer.message)
    if answer.status != HTTP_OK:
        return f"the routing status answered {answer.status}"
    try:
        return _routing((answer.json_object() or {})["data"], rfc3339(around.clock.now()))
    except (KeyError, TypeError, ValidationError):
        return "the routing status answered something else than the percents"


def _routing(data: Any, seen_at: str) -> LiveRouting:
    return LiveRouting(
        user_percent=data["canary_user_percent"],
        autopilot_percent=data["canary_autopilot_percent"],
        shadow_enabled=data["shadow"]["enabled"],
        shadow_sample_rate=data["shadow"]["sample_rate"],
        seen_at=seen_at,
    )


def await_live(
    wanted: Routing, seconds: float, control_plane: ControlPlane, around: Surroundings
) -> Seen:
    """Ask until what is wanted is live, or time is up; a restarting service is waited for."""
    return _ask(wanted, seconds, control_plane, around, lambda seen: seen.problem is None)


def await_answer(
    wanted: Routing, seconds: float, control_plane: ControlPlane, around: Surroundings
) -> Seen:
    """Ask what is live now; only where there is no answer is it asked for again."""
    return _ask(wanted, seconds, control_plane, around, lambda seen: seen.live is not None)


def _ask(
    wanted: Routing,
    seconds: float,
    control_plane: ControlPlane,
    around: Surroundings,
    is_enough: Callable[[Seen], bool],
) -> Seen:
    deadline = around.clock.monotonic() + seconds
    while True:
        around.check_owner()
        seen = compare(wanted, look(control_plane, around))
        if is_enough(seen) or around.clock.monotonic() >= deadline:
            return seen
        around.clock.sleep(LOOK_UP_SECONDS)


def compare(wanted: Routing, found: LiveRouting | str) -> Seen:
    """Whether what was found is what is wanted."""
    if isinstance(found, str):
        return Seen(None, PERCENT_NOT_LIVE, f"what is live could not be read: {found}")
    detail = f"live is {found}; wanted {wanted}"
    percents = (found.user_percent, found.autopilot_percent)
    if percents != (wanted.user_percent, wanted.autopilot_percent):
        return Seen(found, PERCENT_NOT_LIVE, detail)
    if found.shadow_enabled != wanted.shadow_enabled:
        return Seen(found, SHADOW_NOT_LIVE, detail)
    if found.shadow_enabled and found.shadow_sample_rate != wanted.shadow_sample_rate:
        return Seen(found, SHADOW_NOT_LIVE, detail)
    return Seen(found)
