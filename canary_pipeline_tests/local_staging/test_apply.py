"""New canary settings reach the stand-in as they reach a real service: by a restart with them."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from canary_pipeline.local_staging.drills import Client
from canary_pipeline.local_staging.routing import VARIABLES
from canary_pipeline.local_staging.stand_in import (
    APPLY_COMMAND,
    CHECKOUT,
    LocalStaging,
    local_staging,
    rollout_variables,
    server_process,
)
from canary_pipeline.local_staging.tokens import Issuer, new_token_variables
from canary_pipeline_tests.conftest import await_true
from canary_pipeline_tests.local_staging.conftest import serves

USERS, AUTOPILOTS, SHADOW, SAMPLE_RATE = VARIABLES
ROUTING = "/api/v1/control/runtime-routing"
FILE = "OA_STAGING_CANARY_ENV_FILE"
STATE_DIR = "LOCAL_STAGING_STATE_DIR"


@dataclass
class Applying:
    """Runs the script as a rollout does: with the stand-in's variables and a file of settings."""

    environment: Mapping[str, str]
    file: Path

    @property
    def base_url(self) -> str:
        return self.environment["OA_STAGING_CONTROL_BASE_URL"]

    def run(
        self, percent: int, change: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Apply a percent; `change` replaces variables after the file is written."""
        percents = {USERS: str(percent), AUTOPILOTS: str(percent)}
        settings = {**percents, SHADOW: "true", SAMPLE_RATE: "0.5"}
        self.file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        started = {
            "PATH": os.environ["PATH"], **self.environment, **settings, FILE: str(self.file),
            **(change or {}),
        }  # fmt: skip
        process = subprocess.Popen(
            ["/bin/bash", "-c", APPLY_COMMAND],
            cwd=CHECKOUT,
            env=started,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        out, err = process.communicate(timeout=30)
        with pytest.raises(ProcessLookupError):  # nothing that the caller would have to kill
            os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def succeed(self, percent: int) -> None:
        """Apply a percent, and wait until somebody serves again."""
        result = self.run(percent)
        assert result.returncode == 0, result.stdout + result.stderr
        self.await_service()

    def await_service(self) -> None:
        """Wait for the end of a restart."""
        await_true(lambda: serves(self.base_url))

    @property
    def session(self) -> dict[str, str]:
        token = Path(self.environment["OA_STAGING_CONTROL_AUTH_TOKEN_FILE"]).read_text()
        return {"Authorization": f"Bearer {token}"}

    def status(self, path: str = f"{ROUTING}/status") -> Any:
        answer = requests.get(f"{self.base_url}{path}", headers=self.session, timeout=10)
        answer.raise_for_status()
        return answer.json()["data"]

    @property
    def percents(self) -> tuple[int, int]:
        """The percents that are live, of users and of autopilots."""
        live = self.status()
        return live["canary_user_percent"], live["canary_autopilot_percent"]

    @property
    def driver(self) -> str:
        """Who would serve the probe."""
        answer = requests.post(
            f"{self.base_url}{ROUTING}/evaluate",
            json={"thread_id": "staging-canary-thread-5", "cohort_key": "user:staging-canary-5"},
            headers=self.session,
            timeout=10,
        )
        return str(answer.json()["data"]["driver"])

    @property
    def client(self) -> Client:
        """A client of a topic, with a connection of its own."""
        return Client(self.base_url, Issuer.read(self.environment).sync(["topic"]), "topic")


def of(staging: LocalStaging, tmp_path: Path) -> Applying:
    return Applying(staging.environment, tmp_path / "canary.env")


@pytest.fixture
def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Applying]:
    with local_staging(tmp_path / "state", fault=request.param) as staging:
        yield of(staging, tmp_path)


@pytest.fixture
def applying(tmp_path: Path) -> Iterator[Applying]:
    with local_staging(tmp_path / "state") as staging:
        yield of(staging, tmp_path)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applying]:
    """For whatever is refused, and so leaves a stand-in to the next test as it was."""
    folder = tmp_path_factory.mktemp("untouched")
    with local_staging(folder / "state") as staging:
        yield of(staging, folder)


@contextmanager
def refusals(base_url: str) -> Iterator[Callable[[], int]]:
    """Try to connect all the time while the body runs; gives how often that was refused."""
    host, port = base_url.removeprefix("http://").split(":")
    refused: list[ConnectionRefusedError] = []
    ended = threading.Event()

    def knock() -> None:
        while not ended.wait(0.005):
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
            except ConnectionRefusedError as error:
                refused.append(error)

    thread = threading.Thread(target=knock, name="knocking")
    thread.start()
    try:
        yield lambda: len(refused)
    finally:
        ended.set()
        thread.join()


def test_percents_start_at_0_and_then_are_what_was_applied_last(applying: Applying) -> None:
    assert applying.percents == (0, 0)
    assert not applying.status()["shadow"]["enabled"]

    for percent in (5, 100, 0):
        applying.succeed(percent)

        assert applying.percents == (percent, percent)
        live = applying.status()
        assert applying.status("/api/v1/control/status")["runtimeRouting"] == live
        assert live["shadow"]["enabled"]
        assert live["shadow"]["sample_rate"] == 0.5


def test_the_probe_is_routed_by_the_percent_that_was_applied(applying: Applying) -> None:
    drivers = []
    for percent in (20, 21, 0):  # the bucket of the token's user is 20
        applying.succeed(percent)
        drivers.append(applying.driver)

    assert drivers == ["control_service", "runtime_service", "control_service"]


def test_a_restart_refuses_connections_and_then_the_same_process_serves_again(
    tmp_path: Path,
) -> None:
    with local_staging(tmp_path / "state") as staging:
        applying = of(staging, tmp_path)
        assert staging.apply_command == APPLY_COMMAND
        with refusals(staging.base_url) as refused:
            applying.run(5)
            await_true(refused)
            applying.await_service()
        assert applying.percents == (5, 5)

        os.kill(staging.pid, signal.SIGTERM)
        await_true(lambda: not serves(staging.base_url))


def test_the_script_says_what_it_does_and_does_not_wait_until_the_service_is_back(
    applying: Applying,
) -> None:
    result = applying.run(5)

    assert f"applying {USERS}=5 {AUTOPILOTS}=5 {SHADOW}=true {SAMPLE_RATE}=0.5" in result.stdout
    assert f"{applying.base_url} was asked to restart" in result.stdout
    applying.await_service()


def test_the_next_settings_may_come_amid_a_restart(applying: Applying) -> None:
    codes = [applying.run(percent).returncode for percent in (5, 10, 0, 50)]

    applying.await_service()
    assert codes == [0] * 4
    assert applying.percents == (50, 50)


def test_topics_and_tokens_outlive_a_restart(applying: Applying) -> None:
    client, session = applying.client, applying.session
    sent = [(client.publish(number), f"m{number}") for number in range(10)]

    applying.succeed(5)

    assert applying.client.read() == sent
    assert applying.client.publish(10) == 11
    url = f"{applying.base_url}{ROUTING}/status"
    assert requests.get(url, headers=session, timeout=10).status_code == 200


@pytest.mark.parametrize("faulty", ["errors-at-25"], indirect=True)
def test_the_runtime_goes_on_counting_over_a_restart(faulty: Applying) -> None:
    def totals() -> dict[str, int]:
        url = faulty.environment["OA_RUNTIME_METRICS_URL"]
        groups = requests.get(url, timeout=10).json()
        numbers = {**groups["mirror"], **groups["delivery"], **groups["auth_failures"]}
        return {name: value for name, value in numbers.items() if name.endswith("_total")}

    faulty.succeed(25)
    await_true(lambda: totals()["failed_total"])
    before = totals()
    for percent in (50, 0):
        faulty.succeed(percent)
        after = totals()
        assert all(after[name] >= before[name] for name in after)
        before = after
    published = before["published_total"]
    await_true(lambda: totals()["published_total"] > published)
    assert totals()["failed_total"] == before["failed_total"]


def test_a_request_that_came_before_a_restart_is_answered(applying: Applying) -> None:
    host, port = applying.base_url.removeprefix("http://").split(":")
    body = b'{"thread_id": "t"}'
    head = (
        f"POST {ROUTING}/evaluate HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        f"Authorization: {applying.session['Authorization']}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + body[:5])
        applying.status()  # so that the request before has begun

        assert applying.run(5).returncode == 0
        connection.sendall(body[5:])

        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    applying.await_service()


def test_a_staging_that_was_started_by_hand_keeps_its_signing_key(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OA_")}
    with server_process(tmp_path, kept) as (_, base_url):
        applying = Applying(rollout_variables(base_url, {}, tmp_path), tmp_path / "canary.env")
        session = applying.session

        applying.succeed(5)

        url = f"{base_url}{ROUTING}/status"
        assert requests.get(url, headers=session, timeout=10).status_code == 200


@pytest.mark.parametrize("name", [*VARIABLES, FILE, STATE_DIR])
def test_a_variable_that_is_missing_is_named(name: str, untouched: Applying) -> None:
    result = untouched.run(5, {name: ""})

    assert result.returncode == 1
    assert result.stderr == f"FAILED  not set: {name}\n"
    assert untouched.percents == (0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({USERS: "6"}, "canary.env and the environment differ"),
        ({FILE: "/no/such/file"}, f"{FILE} cannot be read: "),
        ({STATE_DIR: "/no/such/folder"}, "no stand-in has this state: "),
    ],
)
def test_what_cannot_be_meant_is_refused(
    change: dict[str, str], said: str, untouched: Applying
) -> None:
    result = untouched.run(5, change)

    assert result.returncode == 1
    assert said in result.stderr
    assert untouched.percents == (0, 0)


def test_a_stand_in_that_is_gone_cannot_be_reached(tmp_path: Path) -> None:
    with local_staging(tmp_path / "state") as staging:
        pass

    result = of(staging, tmp_path).run(5)

    assert result.returncode == 1
    assert f"FAILED  no stand-in can be reached at {staging.base_url}" in result.stderr


@pytest.mark.parametrize(
    ("body", "token", "status"),
    [
        ({}, True, 422),
        (dict.fromkeys((*VARIABLES, "PATH"), "1"), True, 422),
        (dict.fromkeys(VARIABLES, 1), True, 422),
        (dict.fromkeys(VARIABLES, "1"), False, 401),
    ],
)
def test_only_who_has_a_session_may_set_the_canary_and_nothing_else(
    body: dict[str, object],
    token: bool,  # noqa: FBT001 - a table's column
    status: int,
    untouched: Applying,
) -> None:
    answer = requests.put(
        f"{untouched.base_url}/deployment/variables",
        json=body,
        headers=untouched.session if token else {},
        timeout=10,
    )

    assert answer.status_code == status
    assert untouched.percents == (0, 0)


def test_nobody_listens_any_more_when_a_restart_is_confirmed(applying: Applying) -> None:
    answer = requests.put(
        f"{applying.base_url}/deployment/variables",
        json=dict.fromkeys(VARIABLES, "1"),
        headers=applying.session,
        timeout=10,
    )

    assert answer.status_code == 202
    assert not serves(applying.base_url)
    applying.await_service()


@pytest.mark.parametrize("seconds", [0, 0.15, 0.3])
@pytest.mark.parametrize("number", [signal.SIGTERM, None])
def test_it_ends_at_every_moment_of_a_restart(
    number: signal.Signals | None, seconds: float, tmp_path: Path
) -> None:
    variables = new_token_variables()
    with server_process(tmp_path, {**os.environ, **variables}) as (process, base_url):
        environment = rollout_variables(base_url, variables, tmp_path)
        assert Applying(environment, tmp_path / "canary.env").run(5).returncode == 0
        time.sleep(seconds)  # the moment is what this is about
        assert process.stdin is not None
        if number is None:
            process.stdin.close()
        else:
            process.send_signal(number)

        process.wait(5)

        assert not serves(base_url)


def test_after_a_restart_it_still_ends_with_its_standard_input(tmp_path: Path) -> None:
    variables = new_token_variables()
    with server_process(tmp_path, {**os.environ, **variables}) as (process, base_url):
        environment = rollout_variables(base_url, variables, tmp_path)
        Applying(environment, tmp_path / "canary.env").succeed(5)
        assert process.stdin is not None

        process.stdin.close()

        assert process.wait(5) == 0
        assert "Traceback" not in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize("faulty", ["apply-does-nothing"], indirect=True)
def test_apply_does_nothing_says_it_did(faulty: Applying) -> None:
    with refusals(faulty.base_url) as refused:
        result = faulty.run(25)

        assert result.returncode == 0
        assert "was asked to restart" in result.stdout
        time.sleep(0.3)  # a restart would begin within a tenth of a second
        assert faulty.percents == (0, 0)
        assert refused() == 0


@pytest.mark.parametrize("faulty", ["apply-fails"], indirect=True)
def test_apply_fails_from_25_percent_on_and_says_why(faulty: Applying) -> None:
    faulty.succeed(24)

    for percent in (25, 100):
        result = faulty.run(percent)
        assert result.returncode == 1
        assert "settings from 25 % on are refused (fault apply-fails)" in result.stderr
        assert faulty.percents == (24, 24)

    faulty.succeed(0)
    assert faulty.percents == (0, 0)


@pytest.mark.parametrize("faulty", ["apply-lands-late"], indirect=True)
def test_apply_lands_late_and_only_what_was_asked_last(faulty: Applying) -> None:
    def await_landing(percent: int) -> None:
        def landed() -> bool:
            try:
                return faulty.percents == (percent, percent)
            except requests.ConnectionError:
                return False

        await_true(landed)

    assert faulty.run(50).returncode == 0
    for before, percent in ((0, 25), (25, 0)):
        asked = time.monotonic()
        assert faulty.run(percent).returncode == 0
        assert faulty.percents == (before, before)

        await_landing(percent)
        assert 2.9 < time.monotonic() - asked < 6


@pytest.mark.parametrize("faulty", ["drift"], indirect=True)
def test_drift_takes_25_percent_back_without_a_restart(faulty: Applying) -> None:
    faulty.succeed(25)
    assert faulty.percents == (25, 25)

    with refusals(faulty.base_url) as refused:
        await_true(lambda: faulty.percents == (0, 0))
        assert refused() == 0

    assert faulty.status()["shadow"]["enabled"]
    faulty.succeed(10)
    assert faulty.percents == (10, 10)
