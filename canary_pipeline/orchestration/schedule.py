"""The schedule of a rollout: off until someone switches it on, and patient with a rollout."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import dagster as dg

from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import ENVIRONMENT_TAG
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.settings import SettingError

DEFAULT_CRON = "0 6 * * 1-5"
DEFAULT_TIMEZONE = "UTC"

WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)


def rollout_schedule(rollout: Rollout, variables: Mapping[str, str]) -> dg.ScheduleDefinition:
    """The schedule; its times come from the environment when the code location loads.

    Args:
        rollout: What the definitions are built from.
        variables: The environment variables.

    Raises:
        SettingError: When cron or time zone is not accepted.
    """
    prefix = rollout.environment.variable_prefix
    cron = variables.get(f"{prefix}_CRON") or DEFAULT_CRON
    timezone = variables.get(f"{prefix}_TIMEZONE") or DEFAULT_TIMEZONE
    _require_timezone(f"{prefix}_TIMEZONE", timezone)
    try:
        return _schedule(rollout, prefix, cron, timezone)
    except dg.DagsterInvalidDefinitionError:
        accepted = f"a cron schedule such as '{DEFAULT_CRON}'"
        raise SettingError(f"{prefix}_CRON", repr(cron), accepted) from None


def _require_timezone(variable: str, timezone: str) -> None:
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):  # unknown, malformed, the name of a folder
        raise SettingError(variable, repr(timezone), _A_TIMEZONE) from None


_A_TIMEZONE = "a time zone's name such as 'Europe/Berlin'"


def _schedule(rollout: Rollout, prefix: str, cron: str, timezone: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{rollout.environment.job_name}_schedule",
        job_name=rollout.environment.job_name,
        cron_schedule=cron,
        execution_timezone=timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            f"Rolls out to {rollout.environment.name} at a set time; skips a time at which a "
            f"rollout is under way. Times: `{prefix}_CRON`, `{prefix}_TIMEZONE`."
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
