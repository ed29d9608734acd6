"""Two daemons on one home: one of them ticks, the other one says why it does not."""

import multiprocessing
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.one_daemon import SERVICE_TAG, refuse_another_s
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions

NAME = "staging_canary_rollout_schedule"
DUE = datetime.now(UTC).replace(microsecond=0)

FORK = multiprocessing.get_context("fork")


def evaluate(asked: Connection, home: Path) -> None:
    """What a code server does: evaluate each tick that it is asked for."""
    schedule = rollout_definitions(STAGING, {}).resolve_schedule_def(NAME)
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        while question := asked.recv():
            due, tick = question
            with dg.ScheduleEvaluationContext(
                instance.get_ref(), due, ["r", NAME, tick], "r", NAME
            ) as context:
                data = schedule.evaluate_tick(context)
            asked.send(data.skip_message or f"{len(data.run_requests or [])} run")


def serve(asked: Connection, home: Path, folder: Path) -> None:
    """What a daemon does: start a code server, and live as long as that."""
    os.chdir(folder)
    server = FORK.Process(target=evaluate, args=(asked, home))
    server.start()
    server.join()


class Daemon:
    """A daemon and its code server."""

    def __init__(self, home: Path, folder: Path) -> None:
        folder.mkdir()
        self.ask, asked = FORK.Pipe()
        self.process = FORK.Process(target=serve, args=(asked, home, folder))
        self.process.start()

    def tick(self, number: int | str, minutes: int = 0) -> str:
        """Evaluate a tick of Dagster's number, due so many minutes from now."""
        self.ask.send((DUE + timedelta(minutes=minutes), str(number)))
        return str(self.ask.recv())

    def end(self) -> None:
        """End it with its code server."""
        self.ask.send(None)
        self.process.join()


@pytest.fixture
def new_daemon(tmp_path: Path, new_dagster_home: Path) -> Iterator[Callable[[str], Daemon]]:
    home, started = tmp_path / "home", list[Daemon]()
    shutil.copytree(new_dagster_home, home)

    def new(name: str) -> Daemon:
        started.append(Daemon(home, tmp_path / name))
        return started[-1]

    yield new
    for daemon in started:
        if daemon.process.is_alive():
            daemon.end()


def test_of_two_daemons_one_ticks_until_it_ends_and_the_other_names_it(
    new_daemon: Callable[[str], Daemon],
) -> None:
    first, second = new_daemon("first"), new_daemon("second")
    assert first.tick(1) == "1 run"

    why = second.tick(2)

    assert why.startswith("another daemon serves this home, too: process ")
    assert f"process {first.process.pid} in " in why
    assert "/first evaluates this schedule, and this is process " in why
    assert why.endswith("/second. Run one daemon per DAGSTER_HOME")
    assert first.tick(3, minutes=1) == "1 run"
    assert second.tick("by-hand") == "1 run"
    first.end()
    assert second.tick(4, minutes=1) == "1 run"


def test_two_daemons_with_one_code_server_do_not_run_one_time_twice(
    new_daemon: Callable[[str], Daemon],
) -> None:
    server = new_daemon("server")
    assert server.tick(1) == "1 run"

    assert "tick 1 was of this very time" in server.tick(2)

    assert server.tick(1) == "1 run"  # taken up again after a crash
    assert server.tick(3, minutes=1) == "1 run"


def test_a_run_of_one_service_s_schedule_is_not_begun_by_another(
    tmp_path: Path, new_dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OA_STAGING_CONTROL_BASE_URL", "https://user:s3cret@a.example")
    monkeypatch.chdir(tmp_path)
    schedule = rollout_definitions(STAGING, {}).resolve_schedule_def(NAME)
    shutil.copytree(new_dagster_home, tmp_path / "home")
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        [request] = schedule.evaluate_tick(dg.build_schedule_context(instance)).run_requests or []
    run = dg.DagsterRun("j", tags=request.tags)
    again = dg.DagsterRun("j", tags=request.tags, parent_run_id="p", root_run_id="p")
    refuse_another_s(run, STAGING)

    monkeypatch.setenv("OA_STAGING_CONTROL_BASE_URL", "https://b.example")

    with pytest.raises(dg.Failure) as caught:
        refuse_another_s(run, STAGING)
    said = str(caught.value.description)
    assert f"it is of {platform.node()}: {tmp_path}, https://a.example, and this is " in said
    assert f"{tmp_path}, https://b.example. Run one daemon per DAGSTER_HOME" in said
    refuse_another_s(again, STAGING)
    elsewhere = {SERVICE_TAG: request.tags[SERVICE_TAG].replace(platform.node(), "pod-1")}
    refuse_another_s(dg.DagsterRun("j", tags=elsewhere), STAGING)
