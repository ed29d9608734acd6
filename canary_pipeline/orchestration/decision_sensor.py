"""The sensor that tells people of every decision, whoever launched the rollout."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import (
    DECISION_TAG,
    ENVIRONMENT_TAG,
    NOTICE_TAG,
    rollout_of,
)
from canary_pipeline.reports.notice import NoticeNotSentError, notice_of, send
from canary_pipeline.settings import SettingError, SettingValues, settings_table

OLDEST = timedelta(days=1)
"""A decision that could not be told for this long is no news any more."""

MOST_AT_ONCE = 5
"""Notices of one tick, which has a minute for all of them."""

ENDED = (
    dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED,
)  # fmt: skip


def decision_sensor(rollout: Rollout, values: SettingValues) -> dg.SensorDefinition:
    """The sensor; it is on where a receiver is configured when the code location loads.

    A notice that does not arrive is sent again at the next tick, and the failed tick says so. It
    never changes a decision: it is read from a rollout that has ended.

    Args:
        rollout: What the definitions are built from.
        values: The settings, as the code location loads.
    """
    variable = f"{settings_table(rollout.environment)['notify_url'].variable}"
    url = values.notify_url
    status = dg.DefaultSensorStatus.RUNNING if url else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=f"{rollout.environment.asset_group}_decision_sensor",
        minimum_interval_seconds=10,
        default_status=status,
        description=(
            f"Tells the receiver that `{variable}` names of every decision, with its reasons and "
            "a link."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if url is None:
            return dg.SkipReason(f"{variable} is not set: nobody to tell")
        if context.cursor is None:
            context.update_cursor(rfc3339(datetime.now(UTC)))
            return dg.SkipReason("decisions from now on are told")
        since = max(datetime.fromisoformat(context.cursor), datetime.now(UTC) - OLDEST)
        told = 0
        for run in _ended(context.instance, rollout.environment.name, since)[:MOST_AT_ONCE]:
            link = _link(values.ui_url, run)
            told += _tell(context.instance, run, variable, url.get_secret_value(), link)
        return dg.SkipReason(f"{told} decisions told" if told else "no new decision")

    return sensor


def _ended(instance: dg.DagsterInstance, environment: str, since: datetime) -> list[dg.DagsterRun]:
    """Rollouts' runs that ended since a moment and that nobody was told of, oldest first."""
    filters = dg.RunsFilter(
        tags={ENVIRONMENT_TAG: environment}, statuses=list(ENDED), updated_after=since
    )
    records = instance.get_run_records(filters, order_by="update_timestamp", ascending=True)
    runs = [record.dagster_run for record in records]
    return [run for run in runs if DECISION_TAG in run.tags and NOTICE_TAG not in run.tags]


def _tell(
    instance: dg.DagsterInstance, run: dg.DagsterRun, variable: str, url: str, link: str | None
) -> int:
    evidence = rollout_of(instance, run)
    if evidence is None:
        return 0
    try:
        send(notice_of(evidence, link), url)
    except ValueError as error:
        raise SettingError(variable, "not usable (value not shown)", str(error)) from None
    except NoticeNotSentError as error:
        raise dg.Failure(f"run {run.run_id}: {error}; tried again at the next tick") from None
    instance.add_run_tags(run.run_id, {NOTICE_TAG: rfc3339(datetime.now(UTC))})
    return 1


def _link(ui_url: str | None, run: dg.DagsterRun) -> str | None:
    """The run in the Dagster UI, where it is said at which URL people reach that."""
    return f"{ui_url.rstrip('/')}/runs/{run.run_id}" if ui_url else None
