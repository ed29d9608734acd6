"""What becomes of a command that changes staging once the environment may be another host's."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.held_lease import LeaseLostError
from canary_pipeline.outside.lease import release
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.outside.stop import Stop, StoppedError
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.logged_command import run_logged
from canary_pipeline.store.holding import Holding
from canary_pipeline_tests.rollout.conftest import planned

STUBBORN = "trap '' INT; touch begun; while :; do sleep 0.05; done"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    shared = tmp_path / "shared"
    shared.mkdir()
    return shared


@pytest.fixture
def held(shared: Path) -> Iterator[Holding]:
    with Holding("staging", f"file://{shared}") as held:
        yield held


@pytest.fixture
def context(context: Context, held: Holding) -> Context:
    """One that gives commands ten minutes to end, and stops them as a rollout does."""
    context.evidence.holding = held
    stop = Stop()
    stop.held = held
    context = replace(context, clock=SystemClock(), check_stop=stop.check)
    return planned(context, stop_grace_seconds=600)


@pytest.fixture
def lose(held: Holding, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes the environment away by force, and lets its holder notice."""
    monkeypatch.setattr("canary_pipeline.rollout.logged_command.LAST_GRACE_SECONDS", 0.2)

    def lost() -> None:
        assert held.lease
        release(open_store(f"file://{shared}"), "staging", held.lease.token, lambda _: None)
        with suppress(LeaseLostError):
            held.lease.renew()

    return lost


def begun(context: Context) -> bool:
    return (Path(context.plan.repo_root) / "begun").exists()


def test_who_loses_the_environment_does_not_give_a_command_all_of_its_grace(
    context: Context, lose: Callable[[], None]
) -> None:
    check_stop = context.check_stop

    def lose_once_begun() -> None:
        if begun(context):
            lose()
        check_stop()

    with pytest.raises(StoppedError, match="was taken away"):
        run_logged(STUBBORN, "logs/apply-5.log", replace(context, check_stop=lose_once_begun))

    [stopping] = context.stopping
    since = time.monotonic()
    assert stopping.finish() == ""
    assert time.monotonic() - since < 60


def test_a_grace_that_has_begun_ends_soon_once_the_environment_is_lost(
    context: Context, lose: Callable[[], None]
) -> None:
    def stop_once_begun() -> None:
        if begun(context):
            raise StoppedError("stopped by SIGTERM")

    with pytest.raises(StoppedError, match="SIGTERM"):
        run_logged(STUBBORN, "logs/apply-5.log", replace(context, check_stop=stop_once_begun))

    [stopping] = context.stopping
    since = time.monotonic()
    lose()
    assert stopping.finish() == ""
    assert time.monotonic() - since < 60
