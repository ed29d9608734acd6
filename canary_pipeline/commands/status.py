"""How an environment stands: who rolls out to it, what is live, and what a dead rollout left."""

from datetime import UTC, datetime

from canary_pipeline.commands.exits import CommandError, Exit
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.claim import ClaimUnusableError, current_holder, in_words
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.outside.token import Redactor
from canary_pipeline.reports.history import past_rollouts
from canary_pipeline.reports.progress import steps
from canary_pipeline.rollout.attempts import OUTPUT_ROOT, written_decision
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.rollout.live.routing import look
from canary_pipeline.settings import Settings
from canary_pipeline.store.folder import Evidence


def tell(evidence: Evidence | None, settings: Settings) -> Exit:
    """Print how the environment stands, and the steps of one rollout.

    Args:
        evidence: The rollout; None for the newest one.
        settings: Where to ask what is live.

    Raises:
        CommandError: When nobody can say who rolls out.

    Returns:
        `Exit.BLOCK` where a rollout that is not at work has left a cohort live, else `Exit.ALLOW`.
    """
    environment = settings.plan.environment.name
    try:
        holder = current_holder(environment)
    except ClaimUnusableError as error:
        raise CommandError(Exit.NO_DECISION, str(error)) from None
    who = in_words(holder or {}) or "it says nothing of itself"
    busy = "no rollout" if holder is None else f"a rollout is under way ({who})"
    print(f"{environment}: {busy}")
    print(f"live: {_live(settings)}")
    _tell_rollout(evidence or _newest())
    root = evidence.folder.parent if evidence else OUTPUT_ROOT
    left = left_live(root, environment)
    if left is None:
        return Exit.ALLOW
    print(f"ATTENTION: {left}; to restore it:\n{left.commands}")
    return Exit.BLOCK


def _live(settings: Settings) -> str:
    plan = settings.plan
    if not plan.probes_are_live:
        return f"unknown ({', '.join(plan.missing_for_probe)} not configured)"
    control_plane = ControlPlane(plan.endpoints, settings.token, plan.http_timeout_seconds)
    nowhere = Surroundings(Evidence(OUTPUT_ROOT), 1, "", Redactor(settings.token))
    found = look(control_plane, nowhere)
    return f"unknown ({found})" if isinstance(found, str) else str(found)


def _newest() -> Evidence | None:
    found = past_rollouts(OUTPUT_ROOT, 1) if OUTPUT_ROOT.is_dir() else []
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
