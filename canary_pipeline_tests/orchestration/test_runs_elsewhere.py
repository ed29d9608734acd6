"""Runs of other hosts, as the lease shows them: who has lost it amid an attempt is gone."""

from collections.abc import Iterator

import dagster as dg
import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.dead_runs import WORKER_TAG, fail_dead_runs
from canary_pipeline.orchestration.runs import tag_rollout
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.lease import release
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.enter import enter_rollout, opened
from canary_pipeline.store.holding import Holding
from canary_pipeline_tests.orchestration.test_runs import again, instance, new_run
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand", "instance"]


@pytest.fixture
def url(at_hand: AtHand, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"file://{at_hand.root}"
    monkeypatch.setenv("OA_CANARY_EVIDENCE_URL", url)
    return url


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run that a process of another host works on."""
    run = new_run(instance, dg.DagsterRunStatus.STARTED)
    instance.add_run_tags(run.run_id, {WORKER_TAG: f"{run.run_id} another-host 1.1"})
    return run


@pytest.fixture
def attempt(
    instance: dg.DagsterInstance, at_hand: AtHand, run: dg.DagsterRun, url: str
) -> Iterator[Context]:
    """What that run is amid; it has said that it holds the environment."""
    settings = at_hand.settings()
    with Holding("staging", url, {"run": run.run_id}) as holding:
        evidence = opened(settings, STAGING, SystemClock())
        holding.work_in(evidence.folder, new=True)
        evidence.holding = holding
        context = enter_rollout(settings, evidence, run.run_id, "another host")
        tag_rollout(instance, run.run_id, evidence)
        holding.publish()
        yield context


@pytest.mark.usefixtures("attempt")
def test_a_run_that_has_lost_the_environment_amid_its_attempt_is_ended(
    instance: dg.DagsterInstance, run: dg.DagsterRun, url: str
) -> None:
    fail_dead_runs(instance, STAGING)
    assert again(instance, run).status == dg.DagsterRunStatus.STARTED

    release(open_store(url), "staging", 1, wait=lambda _: None)
    fail_dead_runs(instance, STAGING)
    assert again(instance, run).status == dg.DagsterRunStatus.FAILURE


def test_a_run_that_has_just_ended_its_attempt_is_left_alone(
    instance: dg.DagsterInstance, run: dg.DagsterRun, attempt: Context, url: str
) -> None:
    conclude(attempt, "finished", "")
    release(open_store(url), "staging", 1, wait=lambda _: None)

    fail_dead_runs(instance, STAGING)

    assert again(instance, run).status == dg.DagsterRunStatus.STARTED
