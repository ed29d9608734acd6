"""The schedule of a rollout: off until someone switches it on, and patient with a rollout."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.dead_runs import fail_dead_runs
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import ENVIRONMENT_TAG
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.settings import SettingValues, settings_table

WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)

LATEST = timedelta(minutes=30)
"""A tick that comes later than this is skipped: the host was down, and nobody expects it now."""


def rollout_schedule(rollout: Rollout, values: SettingValues) -> dg.ScheduleDefinition:
    """The schedule; its times are settings.

    Args:
        rollout: What the definitions are built from.
        values: The settings, as the code location loads.

    Raises:
        SettingError: When Dagster does not accept the times.
    """
    cron = settings_table(rollout.environment)["cron"]
    try:
        return _schedule(rollout, values)
    except dg.DagsterInvalidDefinitionError:
        raise cron.refused(f"{cron.variable}", values.cron) from None


def _schedule(rollout: Rollout, values: SettingValues) -> dg.ScheduleDefinition:
    table = settings_table(rollout.environment)

    @dg.schedule(
        name=f"{rollout.environment.job_name}_schedule",
        job_name=rollout.environment.job_name,
        cron_schedule=values.cron,
        execution_timezone=values.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            f"Rolls out to {rollout.environment.name} at a set time; skips a time at which a "
            f"rollout is under way, and one that has long passed. Times: "
            f"`{table['cron'].variable}`, `{table['timezone'].variable}`."
        ),
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        why_not = _stale(context) or _under_way(context.instance, rollout.environment)
        return dg.SkipReason(why_not) if why_not else dg.RunRequest()

    return tick


def _stale(context: dg.ScheduleEvaluationContext) -> str | None:
    try:
        due = context.scheduled_execution_time
    except Exception:  # noqa: BLE001 - there is none where somebody tries the schedule by hand
        return None
    late = datetime.now(UTC) - due
    if late <= LATEST:
        return None
    return f"this was due {late.total_seconds() / 3600:.1f} h ago, at {due:%Y-%m-%d %H:%M %Z}"


def _under_way(instance: dg.DagsterInstance, environment: Environment) -> str | None:
    """Which rollout is under way or waits to be, as a sentence; None where there is none.

    A run that Dagster believes started may have been killed; whether it still holds the
    environment tells.
    """
    fail_dead_runs(instance, environment)
    name = environment.name
    holder = current_holder(name)
    if holder is not None:
        return f"a rollout of {name} is under way: {in_words(holder)}"
    filters = dg.RunsFilter(tags={ENVIRONMENT_TAG: name}, statuses=list(WAITING))
    waiting = instance.get_runs(filters, limit=1)
    return f"a rollout of {name} waits: run {waiting[0].run_id}" if waiting else None
