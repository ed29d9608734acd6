"""`canary-rollout status`: who rolls out, what is live, and what a dead rollout has left."""

from datetime import UTC, datetime
from pathlib import Path

from canary_pipeline.commands.exits import Exit
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.planning import Settings
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.history import past_rollouts
from canary_pipeline.reports.progress import steps
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.rollout.live.routing import look
from canary_pipeline.store.folder import Evidence


def tell(evidence: Evidence | None, settings: Settings, environment: Environment) -> Exit:
    """Print how the environment stands, and the steps of one rollout.

    Args:
        evidence: The rollout; None for the newest one.
        settings: Where to ask what is live.
        environment: What is rolled out to.

    Returns:
        `Exit.BLOCK` where a rollout that is not at work has left a cohort live, else `Exit.ALLOW`.
    """
    holder = current_holder(environment.name)
    busy = f"a rollout is under way ({in_words(holder)})" if holder else "no rollout"
    print(f"{environment.name}: {busy}")
    print(f"live: {_live(settings)}")
    _tell_rollout(evidence or _newest(Path(environment.output_root)))
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
    found = past_rollouts(root, 1) if root.is_dir() else []
    return Evidence(found[0].folder) if found and found[0].problem is None else None


def _tell_rollout(evidence: Evidence | None) -> None:
    if evidence is None:
        print("rollout: none yet")
        return
    print(f"rollout: {one_line(str(evidence.folder))}")
    for step in steps(evidence.record(), list(evidence.all_in_flight()), datetime.now(UTC)):
        detail = f", {one_line(step.detail)}" if step.detail else ""
        print(f"  {step.step}: {step.status}{detail}")
    print(f"decision: {written_decision(evidence) or 'none'}")
