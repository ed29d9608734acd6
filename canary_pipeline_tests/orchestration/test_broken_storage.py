"""A run breaks while its steps run side by side: all of them end before a decision does."""

import re
import threading
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run_iterator

from canary_pipeline.orchestration import launch
from canary_pipeline.reports.verification import check
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.orchestration.launches import Launches, launches
from canary_pipeline_tests.rollouts_at_hand import at_hand

__all__ = ["at_hand", "launches"]

pytestmark = pytest.mark.slow

RUNS_ON = "touch running; sleep 60; exit 1"
"""A gate that ends before its time only if it is stopped."""


def decided(launches: Launches, why: str) -> None:
    """No step runs on, and the decision is about all that they have left."""
    running = [each.name for each in threading.enumerate() if each.name.startswith("staging_")]
    [folder] = (launches.at_hand.root / "output/canary/spacetime").glob("staging-*")
    evidence = Evidence(folder)
    assert running == []
    assert (check(evidence).reasons, check(evidence).answer) == ((), "block")
    last = evidence.header().last_attempt
    assert last
    assert last.outcome == "crashed"
    said = rf"({why}) while steps ran, at gate spacetime-chaos \(running\).*"
    assert re.fullmatch(said, last.detail or "")


@pytest.mark.parametrize("ears", ["", "trap '' INT; "], ids=["stops", "is deaf to SIGINT"])
def test_where_the_storage_breaks_a_gate_that_runs_on_is_stopped_before_it_is_decided(
    ears: str, launches: Launches
) -> None:
    at_hand = launches.at_hand
    at_hand.checkout.gate("spacetime-chaos", f"{ears}{RUNS_ON}")
    breaks = f"find '{at_hand.root}' -name '*.db' | while read file; do echo none > $file; done"
    awaits = "until [ -f running ]; do sleep 0.02; done"
    at_hand.checkout.gate("sync-security", f"{awaits}; {breaks}; exit 1")

    with pytest.raises(Exception, match="file is not a database"):
        launches.run()

    # What Dagster does with an event may fail, too.
    decided(launches, r"\w+Error|Dagster gave it up")


def test_where_nobody_takes_its_events_any_more_a_run_is_decided_all_the_same(
    launches: Launches,
) -> None:
    launches.at_hand.checkout.gate("spacetime-chaos", RUNS_ON)
    arguments: Any = (launches.plan, 4)
    job = dg.build_reconstructable_job(launch.__name__, "job_of", arguments)
    run = launches.instance.create_run_for_job(job.get_definition())
    events: Any = execute_run_iterator(job, run, launches.instance)

    for event in events:
        if event.is_step_success and event.step_key == "staging_gates.sync_security":
            break
    events.close()

    decided(launches, "Dagster gave it up")
