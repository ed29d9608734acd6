"""Runs of the job in the test's own process, by the product's own executor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.plan.state import KnownExecutionState

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration import launch
from canary_pipeline.orchestration.going_on import FROM_FAILURE_TAG
from canary_pipeline.orchestration.pages import promotion_key
from canary_pipeline.orchestration.runs import (
    DECISION_TAG,
    worked_on,
)
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.outbox import Outbox
from canary_pipeline_tests.fake_staging import GOOD, answer
from canary_pipeline_tests.rollouts_at_hand import AtHand


@dataclass
class Launches:
    """Runs of the job in this process, by the product's own executor."""

    at_hand: AtHand
    instance: dg.DagsterInstance
    plan: str

    def run(
        self, parent: str | None = None, steps: Sequence[str] = (), **tags: str
    ) -> tuple[str, bool]:
        """Launch, or re-execute; the run's id, and whether it is green."""
        arguments: Any = (self.plan, 4)
        job = dg.build_reconstructable_job(launch.__name__, "job_of", arguments)
        options = parent and dg.ReexecutionOptions(parent_run_id=parent, step_selection=steps)
        result = dg.execute_job(job, self.instance, reexecution_options=options or None, tags=tags)
        return result.run_id, result.success

    def from_failure(self, parent: str) -> tuple[str, bool, set[str]]:
        """Re-execute as *from failure* does; also the steps that Dagster has selected."""
        found = self.instance.get_run_by_id(parent)
        assert found
        steps, _ = KnownExecutionState.build_resume_retry_reexecution(self.instance, found)
        run_id, green = self.run(parent, steps, **{FROM_FAILURE_TAG: "true"})
        return run_id, green, {step.rpartition(".")[2] for step in steps}

    def red(self, run_id: str) -> dict[str, str]:
        """The steps of a run that failed, with what each says."""
        found = self.instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.STEP_FAILURE
        ).records
        events = [record.event_log_entry.dagster_event for record in found]
        said = {event.step_key: event.step_failure_data for event in events if event}
        return {
            (key or "").rpartition(".")[2]: (
                data.user_failure_data and data.user_failure_data.description
            )
            or ""
            for key, data in said.items()
        }

    def force_terminate(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a probe well, after somebody has pressed *Force termination*."""
        [run] = self.instance.get_runs()
        self.instance.report_run_canceled(run)
        answer(200, GOOD)(handler)

    def decision(self, run_id: str) -> str:
        found = self.instance.get_run_by_id(run_id)
        assert found
        return found.tags[DECISION_TAG]

    @property
    def promoted(self) -> list[object]:
        """The folders that were promoted, newest first."""
        records = self.instance.fetch_materializations(promotion_key(STAGING), limit=10).records
        events = [record.asset_materialization for record in records]
        return [event.metadata["folder"].value for event in events if event]

    @property
    def shown_of_summary(self) -> set[str]:
        """What the page of `summary` shows."""
        event = self.instance.get_latest_materialization_event(
            dg.AssetKey(["staging_canary", "summary"])
        )
        assert event
        assert event.asset_materialization
        return set(event.asset_materialization.metadata)

    @property
    def plotted(self) -> list[object]:
        """The percents that Dagster was told to be live, oldest first."""
        key = dg.AssetKey(["staging_canary", "control_status"])
        records = self.instance.fetch_observations(key, limit=10, ascending=True).records
        events = [record.event_log_entry.asset_observation for record in records]
        return [event.metadata["live_user_percent"].value for event in events if event]

    @property
    def notices(self) -> list[str]:
        """What waits in the outbox, oldest first: decision and attempt."""
        waiting = Outbox("staging").waiting(datetime.now(UTC))
        return [f"{item.decision} {item.attempt}" for item in waiting]

    def folder(self, run_id: str) -> Evidence:
        run = self.instance.get_run_by_id(run_id)
        found = worked_on(run) if run else None
        assert found
        return found


@pytest.fixture
def launches(at_hand: AtHand) -> Iterator[Launches]:
    with dg.DagsterInstance.local_temp(str(at_hand.root)) as instance:
        yield Launches(at_hand, instance, at_hand.settings().plan.model_dump_json())
