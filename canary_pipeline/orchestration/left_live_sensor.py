"""The sensor that tells of a dead rollout which has left a cohort live in staging."""

import dagster as dg

from canary_pipeline.model.decision import Reason
from canary_pipeline.orchestration.dead_runs import fail_dead_runs
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
        for environment in rollout.environment.rolled_out_to:
            fail_dead_runs(context.instance, environment)
        found = [each for each in map(left_live, rollout.environment.rolled_out_to) if each]
        wrong = [each for each in found if each.how != HELD_ON_PURPOSE]
        known = [each for each in wrong if each.folder.name in (context.cursor or "").splitlines()]
        new = next((each for each in wrong if each not in known), None)
        if new:
            if url:
                send(_notice(new, new.environment), url.get_secret_value())
            context.update_cursor("\n".join(each.folder.name for each in (*known, new)))
            return dg.SkipReason(f"{new}{'; the receiver of decisions was told' if url else ''}")
        if known:
            raise dg.Failure(
                "\n".join(f"{each}; to restore it:\n{each.commands}" for each in known)
            )
        if not found:
            context.update_cursor("")
        return dg.SkipReason("; ".join(map(str, found)) or "nothing is left live")

    return sensor


def _notice(left: LeftLive, environment: str) -> Notice:
    reason = Reason(f"{left}; to restore it:\n{left.commands}", HEADER)
    summary = (left.folder / SUMMARY).as_uri()
    return Notice(environment, "left live", (reason,), str(left.folder), summary)
