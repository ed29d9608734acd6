"""`canary-rollout status`: who rolls out, what is live, and what a dead rollout has left."""

from datetime import UTC, datetime
from pathlib import Path

from canary_pipeline.commands.exits import Exit
from canary_pipeline.commands.run import apart_from_json
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.planning import Settings
from canary_pipeline.reports.history import newest_first
from canary_pipeline.reports.progress import steps
from canary_pipeline.reports.verification import check
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.rollout.live.routing import look
from canary_pipeline.store.folder import Evidence


def tell(
    evidence: Evidence | None,
    settings: Settings,
    environment: Environment,
    *,
    as_json: bool = False,
) -> Exit:
    """Print how the environment stands, and the steps of one rollout.

    Args:
        evidence: The rollout; None for the newest one.
        settings: Where to ask what is live.
        environment: What is rolled out to.
        as_json: Whether to print `decision.json`, and all else to standard error.

    Returns:
        `Exit.NO_DECISION` where there is none to print, `Exit.BLOCK` where a rollout that is not
        at work has left a cohort live, else `Exit.ALLOW`.
    """
    evidence = evidence or _newest(Path(environment.output_root))
    with apart_from_json(as_json):
        code = _tell(evidence, settings, environment)
    if not as_json:
        return code
    found = check(evidence) if evidence else None
    if found is None or found.answer == "none":
        return Exit.NO_DECISION
    print(found.data.decode(), end="")
    return code


def _tell(evidence: Evidence | None, settings: Settings, environment: Environment) -> Exit:
    holder = current_holder(environment.name)
    busy = f"a rollout is under way ({in_words(holder)})" if holder else "no rollout"
    print(f"{environment.name}: {busy}")
    print(f"live: {_live(settings)}")
    _tell_rollout(evidence)
    left = left_live(environment)
    if left is None:
        return Exit.ALLOW
    print(f"ATTENTION: {left}; to restore it:\n{left.commands}")
    return Exit.BLOCK


def _live(settings: Settings) -> str:
    plan, redactor = settings.plan, settings.redactor
    if not plan.probes_are_live:
        return f"unknown ({', '.join(plan.missing_for_probe)} not configured)"
    found = look(Context(plan, Evidence(Path.cwd(), redactor), settings.control, 1, ""))
    return f"unknown ({redactor.text(found)})" if isinstance(found, str) else str(found)


def _newest(root: Path) -> Evidence | None:
    found = newest_first(root) if root.is_dir() else []
    return found[0] if found else None


def _tell_rollout(evidence: Evidence | None) -> None:
    if evidence is None:
        print("rollout: none yet")
        return
    print(f"rollout: {one_line(str(evidence.folder))}")
    for step in steps(evidence.record(), list(evidence.all_in_flight()), datetime.now(UTC)):
        detail = f", {one_line(step.detail)}" if step.detail else ""
        print(f"  {step.step}: {step.status}{detail}")
    found = check(evidence)
    for reason in found.reasons:
        print(one_line(f"unreliable: {reason}"))
    print(found)
