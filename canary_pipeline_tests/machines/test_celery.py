"""Two Celery workers as two hosts: the same job, unchanged."""

from collections.abc import Iterator

import pytest

from canary_pipeline_tests.conftest import Commands, await_true, decision, statuses
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.machines.celery_workers import Celery, celery
from canary_pipeline_tests.machines.conftest import History, World
from canary_pipeline_tests.machines.servers import Server
from canary_pipeline_tests.test_dagster_dev import TERMINATE

pytestmark = [pytest.mark.prove, pytest.mark.machines]


@pytest.fixture
def two_workers(
    world: World, commands: Commands, history: History, broker: Server
) -> Iterator[Celery]:
    with celery(world, commands, history, broker) as found:
        yield found


def test_a_second_launch_waits_for_the_first_which_stop_ends_and_terminate_does_not(
    two_workers: Celery, staging: FakeStaging
) -> None:
    world, dev = two_workers.world, two_workers.dev
    first = dev.launch(cohorts=[5], cohort_soak_seconds=120)
    world.await_phase("soak")
    second = dev.launch(cohorts=[100])
    _, other = two_workers.holder()
    refused = other.run("run", "--cohorts", "25")
    assert (refused.code, "is under way" in refused.err) == (3, True), refused

    answered = dev.ask(TERMINATE, run=first)
    assert answered["terminateRun"]["__typename"] == "TerminateRunSuccess"
    stopped = world.published
    note = next(stopped.glob("in-flight/*"))
    before = note.read_text()
    await_true(lambda: note.read_text() != before)  # noted every 5 s
    assert [dev.run(run)["status"] for run in (first, second)] == ["STARTED", "QUEUED"]

    assert other.run("stop", "staging").code == 0
    assert [dev.end_of(run) for run in (first, second)] == ["FAILURE", "SUCCESS"]
    assert decision(stopped) == "Decision: block"
    assert "asked for it" in (stopped / "SUMMARY.md").read_text()
    assert list(dict.fromkeys(staging.probed)) == [5, 100]  # and while the first soaked
    assert world.percent == 100


def test_a_worker_that_is_killed_in_a_soak_is_gone_on_with_on_the_other_host(
    two_workers: Celery, staging: FakeStaging
) -> None:
    world, dev = two_workers.world, two_workers.dev
    first = dev.launch(cohorts=[5, 100], cohort_soak_seconds=8)
    world.await_phase("soak")
    holder, other = two_workers.holder()
    two_workers.kill(holder)

    rollout = world.published.name
    assert other.run("resume", rollout).code == 3  # not released: it may live
    assert other.run("release", "staging", "--token", "1").code == 0
    resumed = other.commands.finish(other.start_program("canary-rollout", "resume", rollout))
    assert resumed.code == 0, resumed.out + resumed.err
    assert statuses(world.published) == [(5, "passed", None), (100, "passed", None)]
    assert staging.probed == [5, 100]
    assert dev.run(first)["status"] == "FAILURE"
    assert dev.end_of(dev.launch(cohorts=[5])) == "SUCCESS"  # the queue does not wait for the dead
