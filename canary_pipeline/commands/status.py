"""`canary-rollout status`: who rolls out, what is live, and what a dead rollout has left."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from canary_pipeline.commands.dagster_home import end_dead_runs
from canary_pipeline.commands.exits import Exit
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.rows import LiveRouting
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.outside.token import Redactor
from canary_pipeline.planning import Settings
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.history import past_rollouts
from canary_pipeline.reports.progress import steps
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.rollout.live.routing import look
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal


def tell(evidence: Evidence | None, settings: Settings, environment: Environment) -> Exit:
    """Print how the environment stands, and the steps of one rollout.

    Args:
        evidence: The rollout; None for the newest one.
        settings: Where to ask what is live.
        environment: What is rolled out to.

    Returns:
        `Exit.BLOCK` where a rollout that is not at work has left a cohort live, else `Exit.ALLOW`.
    """
    end_dead_runs(environment)
    holder = current_holder(environment.name)
    busy = f"a rollout is under way ({in_words(holder)})" if holder else "no rollout"
    print(f"{environment.name}: {busy}")
    live = _live(settings)
    print(f"live: {live}")
    _tell_rollout(evidence or _newest(environment), holder or {})
    left = left_live(environment)
    if left is None:
        return Exit.ALLOW
    since = ""
    if isinstance(live, LiveRouting) and live.user_percent != left.percent:
        since = f"; somebody has set {live.user_percent} % since"
    print(f"ATTENTION: {left}{since}; to restore what was:\n{left.commands}")
    return Exit.BLOCK


def _live(settings: Settings) -> LiveRouting | str:
    plan, redactor = settings.plan, Redactor(settings.token)
    if not plan.probes_are_live:
        return f"unknown ({', '.join(plan.missing_for_probe)} not configured)"
    control = ControlService(settings.endpoints, settings.token, plan.http_timeout_seconds)
    found = look(Context(plan, Evidence(Path.cwd(), redactor), control, 1, ""))
    return f"unknown ({redactor.text(found)})" if isinstance(found, str) else found


def _newest(environment: Environment) -> Evidence | None:
    newest = Journal(environment.name).read().newest
    if newest is not None and newest.is_dir():
        return Evidence(newest)
    root = Path(environment.output_root)
    found = past_rollouts(root, 1) if root.is_dir() else []
    return Evidence(found[0].folder) if found and found[0].problem is None else None


def _tell_rollout(evidence: Evidence | None, holder: Mapping[str, str]) -> None:
    if evidence is None:
        print("rollout: none yet")
        return
    print(f"rollout: {one_line(str(evidence.folder))}")
    record = evidence.record()
    dead = not holder or holder.get("run", "") not in ("", *record.header.run_ids)
    for step in steps(record, list(evidence.all_in_flight()), datetime.now(UTC), dead=dead):
        detail = f", {one_line(step.detail)}" if step.detail else ""
        print(f"  {step.step}: {step.status}{detail}")
    print(f"decision: {written_decision(evidence) or 'none'}")
