"""Runs of Dagster's, one after another: what a re-execution goes on with, and what it may say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration import launch
from canary_pipeline.orchestration.pages import promotion_key
from canary_pipeline.orchestration.runs import DECISION_TAG, worked_on
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.outbox import Outbox
from canary_pipeline_tests.fake_staging import answer
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand
from canary_pipeline_tests.test_superseded import page

__all__ = ["at_hand"]


@dataclass
class Launches:
    """Runs of the job in this process, by the product's own executor."""

    at_hand: AtHand
    instance: dg.DagsterInstance

    def run(
        self, parent: str | None = None, steps: Sequence[str] = ()
    ) -> tuple[str, bool]:
        """Launch, or re-execute; the run's id, and whether it is green."""
        plan = self.at_hand.settings().plan.model_dump_json()
        job = dg.build_reconstructable_job(launch.__name__, "job_of", ("staging", plan, 4))  # type: ignore[arg-type]
        options = parent and dg.ReexecutionOptions(parent_run_id=parent, step_selection=steps)
        result = dg.execute_job(job, self.instance, reexecution_options=options or None)
        return result.run_id, result.success

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
        yield Launches(at_hand, instance)


def test_an_older_rollout_s_summary_does_not_speak_over_a_newer_one(launches: Launches) -> None:
    monday, green = launches.run()
    assert (green, launches.decision(monday)) == (True, "allow")
    launches.at_hand.checkout.gate("sync-security", "exit 3")
    tuesday, green = launches.run()
    assert (green, launches.decision(tuesday)) == (False, "block")
    assert page(launches.instance) == ("block", False)

    again, green = launches.run(monday, ["staging_canary__summary"])

    assert not green
    assert page(launches.instance) == ("block", False)
    assert launches.decision(again) == "none"
    [step] = launches.instance.get_records_for_run(
        again, of_type=dg.DagsterEventType.STEP_FAILURE
    ).records
    event = step.event_log_entry.dagster_event
    assert event
    assert event.step_failure_data.error
    assert "is newer, and speaks for staging" in event.step_failure_data.error.to_string()
    assert launches.promoted == [str(launches.folder(monday).folder)]
    assert launches.notices == ["allow 1", "block 1"]


def test_a_block_that_is_gone_on_with_is_told_as_what_it_was_and_as_what_it_is(
    launches: Launches,
) -> None:
    launches.at_hand.staging.probes[100] = answer(500, {})
    blocked, green = launches.run()
    assert (green, launches.promoted) == (False, [])
    repeated, green = launches.run(blocked, ["staging_canary__summary"])
    assert (green, launches.decision(repeated)) == (False, "block")
    found = launches.folder(repeated)
    text = found.read_text("SUMMARY.md") or ""
    assert "this run only repeats the summary" in text
    assert "cohort 100 % failed: probe answered 500" in text
    launches.at_hand.staging.probes.clear()

    mended, green = launches.run(repeated, ["staging_cohorts.cohort_5*"])

    assert (green, launches.decision(mended)) == (True, "allow")
    assert launches.notices == ["block 1", "block 2", "allow 3"]
    assert launches.promoted == [str(found.folder)]
