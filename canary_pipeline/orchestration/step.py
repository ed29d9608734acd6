"""The way from a Dagster step into the core: settings, folder, attempt, surroundings."""

import os
import select
from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from canary_pipeline.model.plan import Plan
from canary_pipeline.model.rows import Attempt
from canary_pipeline.orchestration.resource import RolloutResource
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import (
    ENVIRONMENT_TAG,
    ROLLOUT_TAG,
    conclude,
    launched_by,
    rollout_of,
)
from canary_pipeline.outside.claim import Claim, current_holder, last_holder
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.outside.token import Redactor
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.settings import Settings, resolve
from canary_pipeline.store.folder import Evidence


@dataclass(frozen=True)
class Step:
    """One step of a rollout that is under way, as the core wants it."""

    plan: Plan
    attempt: Attempt
    around: Surroundings
    control_plane: ControlPlane

    @property
    def evidence(self) -> Evidence:
        """The rollout's folder."""
        return self.around.evidence


class OwnerGoneError(Exception):
    """The process that ran this rollout is gone, so this step of it must not go on."""


def enter(context: dg.OpExecutionContext, rollout: Rollout, *, opens: bool = False) -> Step:
    """Enter the rollout that this step's run works on.

    Args:
        context: The step's context.
        rollout: What the definitions were built from.
        opens: Whether this step may start a new rollout.

    Raises:
        dagster.Failure: When the run cannot be a rollout, with a message for people.
    """
    _require_summary(context, rollout)
    resource: RolloutResource = context.resources.rollout
    try:
        settings = resolve(
            rollout.environment,
            os.environ,
            launch=resource.launch_config(),
            declared=rollout.cohorts,
        )
        check_owner = _watch_over(context, rollout, resource)
        evidence = _folder(context, rollout, settings, opens=opens)
        attempt = attempts.join(evidence, context.run_id, launched_by(context.run), SystemClock())
        if opens:
            _tag(context, rollout, evidence)
        plan = attempts.settled_plan(settings.plan, evidence.header())
    except Exception as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    return Step(
        plan,
        attempt,
        Surroundings(
            evidence=evidence,
            attempt=attempt.attempt,
            run_id=context.run_id,
            redactor=Redactor(settings.token),
            say=context.log.info,
            check_owner=check_owner,
        ),
        ControlPlane(plan.endpoints, settings.token, plan.http_timeout_seconds),
    )


def _require_summary(context: dg.OpExecutionContext, rollout: Rollout) -> None:
    """Refuse a run without the summary: it could be green without an `allow`."""
    summary = rollout.asset_key("summary").to_python_identifier()
    steps = context.run.step_keys_to_execute
    planned = summary in {node.name for node in context.job_def.nodes}
    if not planned or (steps is not None and summary not in steps):
        raise dg.Failure(_whole(rollout), allow_retries=False)


def _whole(rollout: Rollout) -> str:
    return (
        f"a rollout is all of its assets: launch the job {rollout.environment.job_name}, or "
        "re-execute a run of it 'from selected' or 'from failure', so that the run holds the "
        "summary and knows its rollout"
    )


def _folder(
    context: dg.OpExecutionContext, rollout: Rollout, settings: Settings, *, opens: bool
) -> Evidence:
    evidence = rollout_of(context.instance, context.run)
    if evidence is None and not opens:
        raise dg.Failure(_whole(rollout))
    if evidence is None:
        evidence = attempts.open_rollout(settings.plan, settings.output_dir, SystemClock())
    return evidence


def _tag(context: dg.OpExecutionContext, rollout: Rollout, evidence: Evidence) -> None:
    """Let people and later runs find the rollout by its run; only once the folder knows the run."""
    tags = {ROLLOUT_TAG: str(evidence.folder), ENVIRONMENT_TAG: rollout.environment.name}
    context.instance.add_run_tags(context.run_id, tags)


def _watch_over(
    context: dg.OpExecutionContext, rollout: Rollout, resource: RolloutResource
) -> Callable[[], None]:
    """Make sure that this run holds the environment; return the check that it still does.

    The rollout's executor holds it in the process that runs the steps. Where another executor
    runs them (`execute_in_process`, say) this process takes the claim, until the run's end.
    """
    name = rollout.environment.name
    holder = last_holder(name)
    if holder.get("run") == context.run_id:
        return owner_check(int(holder["pid"]), name)
    resource.at_teardown.enter_context(
        Claim(name, {"run": context.run_id, "pid": str(os.getpid())})
    )
    resource.at_teardown.callback(
        conclude,
        rollout.environment,
        context.instance,
        context.run,
        "crashed",
        "a step failed",
        say=context.log.info,
    )
    return lambda: None


def owner_check(pid: int, environment: str) -> Callable[[], None]:
    """A check that raises once a process has ended, even if nobody has taken note of its end.

    The parent of a step's process says nothing: it is a server that outlives whoever started it.

    Args:
        pid: The process that runs the rollout, alive now.
        environment: What it holds.
    """
    if not hasattr(os, "pidfd_open"):  # not Linux
        return lambda: _require((current_holder(environment) or {}).get("pid") == str(pid))
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return lambda: _require(False)  # noqa: FBT003
    return lambda: _require(not select.select([handle], [], [], 0)[0])


def _require(alive: bool) -> None:  # noqa: FBT001 - the one thing it is asked
    if not alive:
        raise OwnerGoneError("the process that ran this rollout is gone")
