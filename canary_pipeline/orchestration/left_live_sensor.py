"""The sensor that tells of a dead rollout which has left a cohort live in staging."""

import dagster as dg

from canary_pipeline.orchestration.dead_runs import fail_dead_runs
from canary_pipeline.orchestration.decision_sensor import tell_what_waits
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.rollout.live.leftover import (
    HELD_ON_PURPOSE,
    announce_left_live,
    left_live,
)
from canary_pipeline.settings import SettingValues


def left_live_sensor(rollout: Rollout, values: SettingValues) -> dg.SensorDefinition:
    """The sensor; it is on where rollouts make their cohorts live.

    A notice is put into the outbox, once; from then on ticks fail, which Dagster shows in red,
    until staging is restored. What is held on purpose is only mentioned.

    Args:
        rollout: What the definitions are built from.
        values: The settings, as the code location loads.
    """
    environment = rollout.environment

    @dg.sensor(
        name=f"{environment.asset_group}_left_live_sensor",
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
        fail_dead_runs(context.instance, environment)
        found = [each for each in map(left_live, environment.rolled_out_to) if each]
        wrong = [each for each in found if each.how != HELD_ON_PURPOSE]
        known = (context.cursor or "").splitlines()
        new = [each for each in wrong if each.folder.name not in known]
        for each in wrong:
            announce_left_live(each)
        told, problems = tell_what_waits(environment, values)
        context.update_cursor("\n".join(each.folder.name for each in wrong))
        if problems or (wrong and not new):
            ways = [f"{each}; to restore it:\n{each.commands}" for each in wrong]
            again = [f"{problem}; tried again at the next tick" for problem in problems]
            raise dg.Failure("\n".join([*ways, *again]))
        said = [*map(str, found), *(["the receiver of decisions was told"] if told and new else [])]
        return dg.SkipReason("; ".join(said) or "nothing is left live")

    return sensor
