"""`canary-rollout status`: who rolls out, what is live, and what a dead rollout has left."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from canary_pipeline.commands.exits import Exit
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.outside.token import Redactor
from canary_pipeline.planning import Settings, resolve
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.history import past_rollouts
from canary_pipeline.reports.progress import steps
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.rollout.live.routing import look
from canary_pipeline.settings import SettingError
from canary_pipeline.sources import PROBING
from canary_pipeline.store.folder import Evidence


def tell_all(environments: Iterable[Environment], variables: Mapping[str, str]) -> Exit:
    """Print how each environment stands; one whose settings are wrong hides none of the others.

    Args:
        environments: The environments.
        variables: The environment variables.

    Returns:
        `Exit.BLOCK` where a cohort is left live anywhere; else `Exit.BAD_INPUT` where settings are
        wrong, else `Exit.ALLOW`.
    """
    codes = []
    for environment in environments:
        settings: Settings | SettingError
        try:
            settings = resolve(environment, variables, names=PROBING)
        except SettingError as error:
            settings = error
            codes.append(Exit.BAD_INPUT)
        codes.append(tell(None, settings, environment))
        print()
    return Exit.BLOCK if Exit.BLOCK in codes else max(codes)


def tell(
    evidence: Evidence | None, settings: Settings | SettingError, environment: Environment
) -> Exit:
    """Print how the environment stands, and the steps of one rollout.

    Args:
        evidence: The rollout; None for the newest one.
        settings: Where to ask what is live, or why that cannot be asked.
        environment: What is rolled out to.

    Returns:
        `Exit.BLOCK` where a rollout that is not at work has left a cohort live, else `Exit.ALLOW`.
    """
    holder = current_holder(environment.name)
    busy = f"a rollout is under way ({in_words(holder)})" if holder else "no rollout"
    print(f"{environment.name}: {busy}")
    print(f"live: {_live(settings)}")
    _tell_rollout(evidence or _newest(environment))
    left = left_live(environment)
    if left is None:
        return Exit.ALLOW
    print(f"ATTENTION: {left}; to restore it:\n{left.commands}")
    return Exit.BLOCK


def _live(settings: Settings | SettingError) -> str:
    if isinstance(settings, SettingError):
        return f"unknown ({settings})"
    plan, redactor = settings.plan, Redactor(settings.token)
    if not plan.probes_are_live:
        return f"unknown ({', '.join(plan.missing_for_probe)} not configured)"
    control = ControlService(settings.endpoints, settings.token, plan.http_timeout_seconds)
    found = look(Context(plan, Evidence(Path.cwd(), redactor), control, 1, ""))
    return f"unknown ({redactor.text(found)})" if isinstance(found, str) else str(found)


def _newest(environment: Environment) -> Evidence | None:
    root = Path(environment.output_root)
    found = past_rollouts(root, 1, {environment.name}) if root.is_dir() else []
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
