"""The probe: does routing still answer for this cohort?"""

from collections.abc import Callable
from typing import Any

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.plan import HIGHEST_PERCENT
from canary_pipeline.model.rows import CohortRow
from canary_pipeline.model.text import foreign
from canary_pipeline.outside.answers import HTTP_OK, Answer, Failure, routing_driver_missing
from canary_pipeline.rollout.context import Cohort
from canary_pipeline.store import layout

LONGEST_NAME = 200
"""Characters of what staging calls a driver or a reason; a row is no place to fill."""

OVERRIDES = frozenset(
    {
        "force_control_service", "force_driver", "user_override", "autopilot_override",
        "autopilot_binding",
    }
)  # fmt: skip
"""Routing reasons that outrank the canary, in the control service's own order of precedence."""


def probe(cohort: Cohort) -> CohortRow:
    """Ask once how the cohort's thread would be routed; 200 is `passed`, all else `failed`."""
    context = cohort.context
    probed_at, started = rfc3339(context.clock.now()), context.clock.monotonic()
    answer = context.control.evaluate(cohort.plan.probe_payload(cohort.percent))
    seconds = round(context.clock.monotonic() - started, 3)
    asked = {"probed_at": probed_at, "probe_seconds": seconds}
    if isinstance(answer, Failure):
        cohort.say(f"probe failed, {answer.message}")
        return cohort.row(status="failed", reason=answer.kind, error=answer.message, **asked)
    row = _answered(cohort, answer).model_copy(update=asked)
    cohort.say(f"probe {row.status}, {answer.status}{_routing(row)}, in {seconds:.3f} s")
    return row


def _answered(cohort: Cohort, answer: Answer) -> CohortRow:
    """The row of a probe that got an answer, whose body is kept beside it."""
    evidence = cohort.context.evidence
    name = layout.response(cohort.percent, cohort.context.attempt)
    evidence.write_bytes(name, answer.body)
    if not answer.complete:
        cohort.warn(f"the probe's answer was longer than {len(answer.body)} bytes; {name} is cut")
    passed, data = answer.status == HTTP_OK, answer.json_object()
    if answer.note:
        cohort.warn(f"the probe's answer: {answer.note}")
    missing = routing_driver_missing(data) if passed and data is not None else None
    if missing is not None:
        cohort.warn(f"{missing}; see {name}")
    if passed and data is None:
        kind = foreign(answer.content_type) or "unknown type"
        cohort.warn(
            f"the probe got 200, but not a JSON object ({kind}): a proxy or a login page "
            f"may be answering; see {name}",
        )
    routing = _routing_fields(data, evidence.redactor.text)
    return cohort.row(
        status="passed" if passed else "failed",
        reason=None if passed else "http_status",
        error=_redirect(answer),
        http_status=answer.status,
        response_file=name,
        response_sha256=evidence.sha256(name),
        driver=routing.get("driver"),
        routing_reason=routing.get("reason"),
    )


def _routing_fields(data: dict[str, Any] | None, redacted: Callable[[str], str]) -> dict[str, str]:
    inner = (data or {}).get("data")
    if not isinstance(inner, dict):
        return {}
    found = {name: inner.get(name) for name in ("driver", "reason")}
    return {
        name: foreign(redacted(value), LONGEST_NAME)  # a cut could leave half a secret
        for name, value in found.items()
        if isinstance(value, str)
    }


def _redirect(answer: Answer) -> str | None:
    """Where an answer wants to send us, which is never followed."""
    to = answer.location
    return f"answered {answer.status} to {to}, which is not followed" if to else None


def _routing(row: CohortRow) -> str:
    return f", {row.driver} by {row.routing_reason}" if row.driver and row.routing_reason else ""


def routing_contradiction(row: CohortRow) -> str | None:
    """What the probe said against the percent that is live, where that is certain; or None.

    At 100 % every user is in the canary, unless something that outranks it says otherwise.
    """
    if row.status != "passed" or row.cohort_percent != HIGHEST_PERCENT:
        return None
    if row.driver != "control_service" or row.routing_reason in OVERRIDES:
        return None
    return (
        f"100 % is live, but the probe was routed to {row.driver} by {row.routing_reason}, "
        "not to the canary's driver"
    )
