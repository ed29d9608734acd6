"""The schedule of a rollout: off until someone switches it on, and patient with a rollout."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.dead_runs import fail_dead_runs
from canary_pipeline.orchestration.one_daemon import SERVICE_TAG, other_daemon, service
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import ENVIRONMENT_TAG
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.settings import SettingValues, setting_of, variable_of
from canary_pipeline.sources import is_given, read_values

WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)

TIMES = ("cron", "timezone")

LATEST = timedelta(minutes=30)
"""A tick that comes later than this is skipped: the host was down, and nobody expects it now."""


def rollout_schedules(
    rollout: Rollout, values: SettingValues, variables: Mapping[str, str]
) -> list[dg.ScheduleDefinition]:
    """The schedule; of a pipeline one for each environment that says when. Times are settings.

    Args:
        rollout: What the definitions are built from.
        values: The settings, as the code location loads.
        variables: The environment variables.

    Raises:
        SettingError: When Dagster does not accept the times.
    """
    if not rollout.environment.parts:
        source = variable_of(rollout.environment, "cron")
        return [_checked_schedule(rollout, rollout.environment, values, f"{source}")]
    readings = [
        (part, read_values(part, variables, names=TIMES))
        for part in rollout.environment.parts
        if is_given(part, "cron", variables)
    ]
    return [
        _checked_schedule(rollout, part, reading.values, reading.sources["cron"])
        for part, reading in readings
        if "cron" in reading.sources
    ]


def _checked_schedule(
    rollout: Rollout, environment: Environment, values: SettingValues, source: str
) -> dg.ScheduleDefinition:
    try:
        return _schedule(rollout, environment, values)
    except dg.DagsterInvalidDefinitionError:
        raise setting_of(environment, "cron").refused(source, values.cron) from None


def _schedule(
    rollout: Rollout, environment: Environment, values: SettingValues
) -> dg.ScheduleDefinition:
    variables = " and ".join(f"`{variable_of(environment, name)}`" for name in TIMES)

    @dg.schedule(
        name=environment.schedule_name,
        job_name=rollout.environment.job_name,
        cron_schedule=values.cron,
        execution_timezone=values.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            f"Rolls out to {environment.name} at a set time; skips a time at which a rollout is "
            f"under way, and one that has long passed. Times: {variables}."
        ),
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        why_not = (
            _stale(context)
            or other_daemon(context, environment.schedule_name)
            or _under_way(context.instance, environment)
        )
        if why_not:
            return dg.SkipReason(why_not)
        tags = {SERVICE_TAG: service(environment)}
        tags |= {ENVIRONMENT_TAG: environment.name} if environment.partition else {}
        return dg.RunRequest(partition_key=environment.partition, tags=tags)

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
