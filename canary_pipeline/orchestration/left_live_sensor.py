"""The sensor that tells of a dead rollout which has left a cohort live in staging."""

import dagster as dg

from canary_pipeline.model.decision import Reason
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.reports.notice import Notice, send
from canary_pipeline.rollout.live.leftover import HELD_ON_PURPOSE, LeftLive, left_live
from canary_pipeline.settings import SettingValues
from canary_pipeline.store.layout import HEADER, SUMMARY


def left_live_sensor(rollout: Rollout, values: SettingValues) -> dg.SensorDefinition:
    """The sensor; it is on where rollouts make their cohorts live.

    The receiver of the decisions is told once; from then on ticks fail, which Dagster shows in
    red, until staging is restored. What is held on purpose is only mentioned.

    Args:
        rollout: What the definitions are built from.
        values: The settings, as the code location loads.
    """
    url = values.notify_url

    @dg.sensor(
        name=f"{rollout.environment.asset_group}_left_live_sensor",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING
        if rollout.changes_staging
        else dg.DefaultSensorStatus.STOPPED,
        description=(
            "Fails while a rollout that is not at work any more has left a cohort live, and says "
            "how to restore what was."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        left = left_live(rollout.environment)
        if left is None:
            context.update_cursor("")
            return dg.SkipReason("nothing is left live")
        if left.how == HELD_ON_PURPOSE:
            return dg.SkipReason(str(left))
        if context.cursor == left.folder.name:
            raise dg.Failure(f"{left}; to restore it:\n{left.commands}")
        if url:
            send(_notice(left, rollout.environment.name), url.get_secret_value())
        context.update_cursor(left.folder.name)
        return dg.SkipReason(f"{left}{'; the receiver of decisions was told' if url else ''}")

    return sensor


def _notice(left: LeftLive, environment: str) -> Notice:
    reason = Reason(f"{left}; to restore it:\n{left.commands}", HEADER)
    summary = (left.folder / SUMMARY).as_uri()
    return Notice(environment, "left live", (reason,), str(left.folder), summary)
