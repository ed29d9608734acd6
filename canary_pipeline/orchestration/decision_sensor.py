"""The sensor that tells people of every decision, whoever launched the rollout."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from canary_pipeline.model.environment import Environment
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.orchestration.dead_runs import fail_dead_runs
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import environment_of, runs_of, worked_on
from canary_pipeline.reports.notice import NO_DECISION, deliver
from canary_pipeline.settings import SettingError, SettingValues, variable_of
from canary_pipeline.sources import is_given, read_values
from canary_pipeline.store.outbox import Item, Outbox

ENDED_BADLY = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

OVERLAP = timedelta(minutes=5)
"""So much of what the tick before has seen is looked at again; the outbox knows what it has."""


def decision_sensor(
    rollout: Rollout, values: SettingValues, variables: Mapping[str, str]
) -> dg.SensorDefinition:
    """The sensor; it is on where a receiver is configured when the code location loads.

    A notice that does not arrive is sent again at the next tick, and the failed tick says so. It
    never changes a decision: whoever decides puts a notice of it into the outbox.

    Args:
        rollout: What the definitions are built from.
        values: The settings, as the code location loads.
        variables: The environment variables.
    """
    environment = rollout.environment
    variable = f"{variable_of(environment, 'notify_url')}"
    tells = any(is_given(each, "notify_url", variables) for each in environment.rolled_out_to)
    tells = tells or values.notify_url is not None
    status = dg.DefaultSensorStatus.RUNNING if tells else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=f"{environment.asset_group}_decision_sensor",
        minimum_interval_seconds=10,
        default_status=status,
        description=(
            f"Tells the receiver that `{variable}` names of every decision, with its reasons and "
            "a link; of one that was withdrawn or rolled back; and of rollouts without one."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not tells:
            return dg.SkipReason(f"{variable} is not set: nobody to tell")
        now = datetime.now(UTC)
        since = datetime.fromisoformat(context.cursor) if context.cursor else now
        fail_dead_runs(context.instance, environment)
        _put_in_without_decision(context.instance, environment, since - OVERLAP)
        told, problems = tell_what_waits(environment, values)
        context.update_cursor(rfc3339(now))
        if problems:
            raise dg.Failure(f"{'; '.join(problems)}; tried again at the next tick")
        return dg.SkipReason(f"{told} decisions told" if told else "no new decision")

    return sensor


def tell_what_waits(environment: Environment, values: SettingValues) -> tuple[int, list[str]]:
    """Tell the receiver what waits in the outboxes of an environment and its parts.

    Args:
        environment: What is rolled out to.
        values: The settings, as the code location loads.

    Returns:
        How many notices were told, and why others were not.

    Raises:
        SettingError: When the receiver's URL is nobody's.
    """
    told, problems = 0, list[str]()
    for each in (environment, *environment.parts):
        own = values if each is environment else _of_part(each)
        url, ui_url = own.notify_url or values.notify_url, own.ui_url or values.ui_url
        if url is None:
            continue
        try:
            more, faults = deliver(each.name, url.get_secret_value(), ui_url)
        except ValueError as error:
            variable = f"{variable_of(each if own.notify_url else environment, 'notify_url')}"
            shown = "not usable (value not shown)"
            raise SettingError(variable, shown, str(error)) from None
        told += more
        problems += faults
    return told, problems


def _of_part(part: Environment) -> SettingValues:
    """What an environment of a file has of its own."""
    return read_values(part, os.environ, names=("notify_url", "ui_url")).values


def _put_in_without_decision(
    instance: dg.DagsterInstance, environment: Environment, since: datetime
) -> None:
    """Put in a notice of each run that has ended since a moment without opening a rollout."""
    filters = runs_of(environment, statuses=[*ENDED_BADLY], updated_after=since)
    for record in instance.get_run_records(filters):
        run = record.dagster_run
        name = (environment_of(environment, run) or environment).name
        if worked_on(run) is None:
            why = f"run {run.run_id} ended ({run.status.value}) without working on a rollout"
            item = Item(
                environment=name,
                folder="",
                attempt=0,
                decision=NO_DECISION,
                reasons=((why, "Dagster's event log"),),
                run_id=run.run_id,
                at=datetime.now(UTC),
            )
            Outbox(name).put(item)
