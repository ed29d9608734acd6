"""The schedule of a rollout: off until someone switches it on."""

import os

import dagster as dg

from canary_pipeline.orchestration.step import Rollout

DEFAULT_CRON = "0 6 * * 1-5"
DEFAULT_TIMEZONE = "UTC"


def rollout_schedule(rollout: Rollout) -> dg.ScheduleDefinition:
    """The schedule; its times come from the environment when the code location loads."""
    prefix = f"OA_{rollout.environment.name.upper()}_CANARY"
    return dg.ScheduleDefinition(
        name=f"{rollout.environment.job_name}_schedule",
        job_name=rollout.environment.job_name,
        cron_schedule=os.environ.get(f"{prefix}_CRON") or DEFAULT_CRON,
        execution_timezone=os.environ.get(f"{prefix}_TIMEZONE") or DEFAULT_TIMEZONE,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Rolls out to {rollout.environment.name} at a set time.",
    )
