"""The schedule of a rollout: off until someone switches it on, and patient with a rollout."""

import dagster as dg

from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import ENVIRONMENT_TAG
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.settings import SettingValues, settings_table

WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)


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
            f"rollout is under way. Times: `{table['cron'].variable}`, "
            f"`{table['timezone'].variable}`."
        ),
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        busy = _under_way(context.instance, rollout.environment.name)
        return dg.SkipReason(busy) if busy else dg.RunRequest()

    return tick


def _under_way(instance: dg.DagsterInstance, environment: str) -> str | None:
    """Which rollout is under way or waits to be, as a sentence; None where there is none.

    A run that Dagster believes started may have been killed; whether it still holds the
    environment tells.
    """
    holder = current_holder(environment)
    if holder is not None:
        return f"a rollout of {environment} is under way: {in_words(holder)}"
    filters = dg.RunsFilter(tags={ENVIRONMENT_TAG: environment}, statuses=list(WAITING))
    waiting = instance.get_runs(filters, limit=1)
    return f"a rollout of {environment} waits: run {waiting[0].run_id}" if waiting else None
