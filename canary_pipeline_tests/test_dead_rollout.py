"""A whole rollout that is killed with everything it started: nothing waits for it for ever."""

import os
import signal
from datetime import UTC, datetime

import dagster as dg
import pytest

from canary_pipeline.store.outbox import Outbox
from canary_pipeline_tests.conftest import Checkout, Commands, await_true


def test_a_killed_rollout_is_failed_in_dagster_and_told_of(
    commands: Commands, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.environment["CANARY_PIPELINE_STATE_DIR"] = str(commands.folder / "state")
    monkeypatch.setenv("CANARY_PIPELINE_STATE_DIR", str(commands.folder / "state"))
    checkout.gate("sync-security", "sleep 300")
    process = commands.start("canary-rollout", "run", "--cohorts", "5")
    await_true(lambda: checkout.runs_of("sync-security"))
    os.killpg(process.pid, signal.SIGKILL)
    commands.finish(process)

    result = commands.run("canary-rollout", "status")

    assert result.code == 0
    assert "gate sync-security: killed, at running" in result.out
    with dg.DagsterInstance.from_config(commands.environment["DAGSTER_HOME"]) as instance:
        [run] = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert run.tags["canary/decision"] == "block"
    [notice] = Outbox("staging").waiting(datetime.now(UTC))
    assert (notice.decision, notice.attempt) == ("no decision", 1)
    assert "its process was killed" in notice.reasons[0][0]
    assert commands.run("canary-rollout", "history").out.count("killed") == 1
