"""How one rollout stands, as it is printed: its steps, its decision, and what cannot be read."""

from collections.abc import Mapping
from datetime import UTC, datetime

from canary_pipeline.model.text import one_line
from canary_pipeline.reports.progress import steps
from canary_pipeline.reports.verification import check
from canary_pipeline.store.folder import Evidence, NotARolloutError


def tell_rollout(evidence: Evidence | None, holder: Mapping[str, str] | None) -> bool:
    """Print the steps and the decision of a rollout.

    Args:
        evidence: The rollout; None where there is none.
        holder: What whoever is at work says of itself; None where nobody is.

    Returns:
        Whether all of it can be read.
    """
    if evidence is None:
        print("rollout: none yet")
        return True
    print(f"rollout: {one_line(str(evidence.folder))}")
    try:
        _tell_steps(evidence, holder)
        readable = True
    except NotARolloutError as error:
        print(one_line(f"unreadable: {error}"))
        readable = False
    found = check(evidence)
    for reason in found.reasons:
        print(one_line(f"unreliable: {reason}"))
    print(found)
    return readable


def _tell_steps(evidence: Evidence, holder: Mapping[str, str] | None) -> None:
    record = evidence.record()
    dead = holder is None or holder.get("run", "") not in ("", *record.header.run_ids)
    for step in steps(record, list(evidence.all_in_flight()), datetime.now(UTC), dead=dead):
        detail = f", {one_line(step.detail)}" if step.detail else ""
        print(f"  {step.step}: {step.status}{detail}")


def print_decision(evidence: Evidence | None) -> bool:
    """Print `decision.json`; returns whether there is one that can be relied on."""
    found = check(evidence) if evidence else None
    if found is None or found.answer == "none":
        return False
    print(found.data.decode(), end="")
    return True
