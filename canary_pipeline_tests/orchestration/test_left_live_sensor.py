"""A dead rollout that has left a cohort live is told once; then ticks fail until it is restored."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline_tests.conftest import Checkout, InProcess, decision
from canary_pipeline_tests.fake_staging import FakeStaging, answer
from canary_pipeline_tests.live_staging import (
    APPLY_VARIABLE,
    FAKE_APPLY,
    ON_BLOCK_VARIABLE,
    ROLLBACK_VARIABLE,
    let_apply,
    live_in,
)
from canary_pipeline_tests.orchestration.test_decision_sensor import Receiver, receiver
from canary_pipeline_tests.orchestration.test_definitions import steps

__all__ = ["receiver"]

NAME = "staging_canary_left_live_sensor"


@dataclass
class Sensor:
    """The sensor, ticking as the daemon lets it."""

    variables: dict[str, str]
    cursor: str | None = None

    @property
    def definition(self) -> dg.SensorDefinition:
        return rollout_definitions(STAGING, self.variables).resolve_sensor_def(NAME)

    def tick(self) -> str | None:
        """One tick; what it says. Its cursor is kept only if it does not fail."""
        with dg.DagsterInstance.get() as instance:
            context = dg.build_sensor_context(instance, cursor=self.cursor)
            data = self.definition.evaluate_tick(context)
        self.cursor = data.cursor
        return data.skip_message


@pytest.fixture
def rollout(
    in_process: InProcess,
    staging: FakeStaging,
    checkout: Checkout,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """Runs a rollout that blocks with 100 % live."""
    for name in ("DAGSTER_HOME", "CANARY_PIPELINE_CLAIM_DIR"):
        monkeypatch.setenv(name, in_process.commands.environment[name])
    monkeypatch.chdir(in_process.commands.folder)
    let_apply(staging, checkout.folder)
    staging.probes[100] = answer(500, {})

    def run(**more: str) -> Path:
        environment = {
            "OA_STAGING_CANARY_COHORTS": "5,100",
            APPLY_VARIABLE: FAKE_APPLY,
            "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": "1",
            **more,
        }
        assert not in_process.job(None, **environment)
        folder = in_process.commands.folders[-1]
        assert decision(folder) == "Decision: block"
        return folder

    return run


def test_it_is_on_only_where_rollouts_make_their_cohorts_live() -> None:
    applying = Sensor({APPLY_VARIABLE: "x"}).definition
    asking = Sensor({}).definition

    assert applying.default_status == dg.DefaultSensorStatus.RUNNING
    assert asking.default_status == dg.DefaultSensorStatus.STOPPED


def test_it_is_quiet_where_everything_was_restored(rollout: Callable[..., Path]) -> None:
    sensor = Sensor({APPLY_VARIABLE: FAKE_APPLY})
    assert sensor.tick() == "nothing is left live"

    rollout()

    assert sensor.tick() == "nothing is left live"


def test_it_tells_once_then_fails_until_staging_is_restored(
    rollout: Callable[..., Path], in_process: InProcess, receiver: Receiver, checkout: Checkout
) -> None:
    rollback = f"[ ! -f mended ] || {FAKE_APPLY}; [ -f mended ]"
    folder = rollout(**{ROLLBACK_VARIABLE: rollback})
    assert live_in(checkout.folder / "live.env")["data"]["canary_user_percent"] == 100
    sensor = Sensor({APPLY_VARIABLE: "x", "OA_STAGING_CANARY_NOTIFY_URL": receiver.url})
    words = f"{folder.name} has left staging at 100 % (its rollback failed)"

    first = sensor.tick()

    assert first is not None
    assert first.startswith(words)
    [block, left] = receiver.got
    path, told = left
    assert path == "/hook?key=s3cret"
    assert (block[1]["decision"], told["decision"]) == ("block", "left live")
    assert len({block[1]["id"], told["id"]} - {""}) == 2
    [reason] = told["reasons"]
    assert reason["text"].startswith(words)
    assert f"canary-rollout rollback {folder}" in reason["text"]
    for _ in range(2):
        with pytest.raises(dg.Failure) as caught:
            sensor.tick()
        assert words in str(caught.value.description)
        assert f"canary-rollout rollback {folder}" in str(caught.value.description)
    assert len(receiver.got) == 2

    (checkout.folder / "mended").touch()
    done = in_process.commands.run(
        "canary-rollout", "rollback", str(folder), more={APPLY_VARIABLE: FAKE_APPLY}
    )

    assert done.code == 0, done.out + done.err
    assert sensor.tick() == "nothing is left live"
    assert sensor.cursor == ""
    told_at_last = [body["decision"] for _, body in receiver.got]
    assert told_at_last == ["block", "left live", "rolled back"]


def test_a_receiver_that_fails_is_tried_again(
    rollout: Callable[..., Path], receiver: Receiver
) -> None:
    rollout(**{ROLLBACK_VARIABLE: "exit 3"})
    receiver.status = 500
    sensor = Sensor({APPLY_VARIABLE: "x", "OA_STAGING_CANARY_NOTIFY_URL": receiver.url})

    with pytest.raises(dg.Failure, match="tried again at the next tick"):
        sensor.tick()
    receiver.status = 204
    told = sensor.tick()

    assert told is not None
    assert told.endswith("the receiver of decisions was told")
    left = [body["id"] for _, body in receiver.got if body["decision"] == "left live"]
    assert len(left) == 2
    assert left[0] == left[1]


def test_what_is_held_on_purpose_is_only_mentioned(
    rollout: Callable[..., Path], receiver: Receiver
) -> None:
    folder = rollout(**{ON_BLOCK_VARIABLE: "hold"})
    sensor = Sensor({APPLY_VARIABLE: "x", "OA_STAGING_CANARY_NOTIFY_URL": receiver.url})

    for _ in range(2):
        assert sensor.tick() == f"{folder.name} has left staging at 100 % (held on purpose)"
    assert [body["decision"] for _, body in receiver.got] == ["block"]


def test_the_graph_rolls_back_only_where_cohorts_are_made_live() -> None:
    def found(variables: dict[str, str]) -> dict[str, set[str]]:
        job = rollout_definitions(STAGING, variables).resolve_job_def("staging_canary_rollout")
        return steps(job)

    asking, applying = found({}), found({APPLY_VARIABLE: "x"})

    assert applying.keys() - asking.keys() == {"staging_cohorts.rollback"}
    assert applying["staging_cohorts.rollback"] == {"staging_cohorts.cohort_100"}
    assert "staging_cohorts.rollback" in applying["staging_cohorts.staging_cohort_results"]


@pytest.mark.parametrize("key", ["apply_command", "on_block", "verify_timeout_seconds"])
def test_a_launch_cannot_say_how_staging_is_changed(key: str) -> None:
    job = rollout_definitions(STAGING, {APPLY_VARIABLE: "x"}).resolve_job_def(
        "staging_canary_rollout"
    )
    config = {"resources": {"rollout": {"config": {key: "1"}}}}

    dg.validate_run_config(job, {"resources": {"rollout": {"config": {}}}})
    with pytest.raises(dg.DagsterInvalidConfigError, match=key):
        dg.validate_run_config(job, config)
