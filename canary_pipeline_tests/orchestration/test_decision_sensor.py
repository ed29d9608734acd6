"""People are told of every decision, once; a receiver that fails changes none."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline_tests.conftest import InProcess, decision
from canary_pipeline_tests.fake_staging import FakeStaging, answer


@dataclass
class Receiver:
    """A webhook's receiver: what it got, and what it answers."""

    url: str = ""
    status: int = 204
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append((self.path, json.loads(body)))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook?key=s3cret"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Sensor:
    """The sensor, ticking as the daemon lets it."""

    variables: dict[str, str]
    cursor: str | None = None

    def tick(self) -> str | None:
        """One tick; what it says. Its cursor is kept only if it does not fail."""
        definitions = rollout_definitions(STAGING, self.variables)
        sensor = definitions.resolve_sensor_def("staging_canary_decision_sensor")
        with dg.DagsterInstance.get() as instance:
            data = sensor.evaluate_tick(
                dg.build_sensor_context(instance, cursor=self.cursor, definitions=definitions)
            )
        self.cursor = data.cursor
        return data.skip_message


@pytest.fixture
def new_sensor(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sensor]:
    def make(url: str, **more: str) -> Sensor:
        monkeypatch.setenv("DAGSTER_HOME", in_process.commands.environment["DAGSTER_HOME"])
        sensor = Sensor({"OA_STAGING_CANARY_NOTIFY_URL": url, **more})
        sensor.tick()
        return sensor

    return make


def test_a_block_is_told_once_with_its_reasons_and_a_link(
    in_process: InProcess,
    staging: FakeStaging,
    receiver: Receiver,
    new_sensor: Callable[..., Sensor],
) -> None:
    sensor = new_sensor(receiver.url, OA_STAGING_CANARY_UI_URL="http://ui.example/")
    staging.probes[5] = answer(500, {})
    in_process.job({"cohorts": [5]})

    assert [sensor.tick(), sensor.tick()] == ["1 decisions told", "no new decision"]

    [(path, body)] = receiver.got
    assert path == "/hook?key=s3cret"
    assert body["decision"] == "block"
    assert body["environment"] == "staging"
    assert body["title"] == "staging canary rollout: block"
    assert body["reasons"] == [
        {"text": "cohort 5 % failed: probe answered 500", "evidence": "cohort-5.json"}
    ]
    assert "cohort 5 % failed: probe answered 500" in body["message"]
    [folder] = in_process.commands.folders
    assert body["folder"] == str(folder)
    with dg.DagsterInstance.get() as instance:
        [run] = instance.get_runs()
    assert body["link"] == f"http://ui.example/runs/{run.run_id}"


def test_an_allow_is_told_and_links_to_the_summary_where_no_ui_is_named(
    in_process: InProcess, receiver: Receiver, new_sensor: Callable[..., Sensor]
) -> None:
    sensor = new_sensor(receiver.url)
    in_process.job({"cohorts": [5]})

    sensor.tick()

    [(_, body)] = receiver.got
    [folder] = in_process.commands.folders
    assert (body["decision"], body["reasons"]) == ("allow", [])
    assert body["link"] == (folder / "SUMMARY.md").as_uri()


def test_an_allow_whose_evidence_was_edited_is_not_told_as_one(
    in_process: InProcess, receiver: Receiver, new_sensor: Callable[..., Sensor]
) -> None:
    sensor = new_sensor(receiver.url)
    in_process.job({"cohorts": [5]})
    [folder] = in_process.commands.folders
    (folder / "gate-results.jsonl").write_text("")

    sensor.tick()

    [(_, body)] = receiver.got
    assert decision(folder) == "Decision: allow"
    assert body["decision"] == "no decision"


def test_a_receiver_that_fails_changes_no_decision_and_is_told_again(
    in_process: InProcess, receiver: Receiver, new_sensor: Callable[..., Sensor]
) -> None:
    sensor = new_sensor(receiver.url)
    receiver.status = 500
    assert in_process.job({"cohorts": [5]})

    with pytest.raises(dg.Failure, match="tried again at the next tick") as error:
        sensor.tick()

    assert "s3cret" not in str(error.value)
    [folder] = in_process.commands.folders
    assert decision(folder) == "Decision: allow"
    receiver.status = 204
    assert sensor.tick() == "1 decisions told"
    assert [body["decision"] for _, body in receiver.got] == ["allow", "allow"]


def test_what_was_decided_before_the_sensor_was_on_is_news_all_the_same(
    in_process: InProcess, receiver: Receiver, new_sensor: Callable[..., Sensor]
) -> None:
    in_process.job({"cohorts": [5]})

    new_sensor(receiver.url)

    assert [body["decision"] for _, body in receiver.got] == ["allow"]


def test_a_url_that_nobody_knows_is_named_and_not_shown(
    in_process: InProcess, new_sensor: Callable[..., Sensor]
) -> None:
    sensor = new_sensor("ftp://host/x")
    in_process.job({"cohorts": [5]})

    with pytest.raises(ValueError, match="OA_STAGING_CANARY_NOTIFY_URL is not usable") as error:
        sensor.tick()

    assert "ftp://host/x" not in str(error.value)


def test_a_run_that_opened_no_rollout_is_told(
    in_process: InProcess, receiver: Receiver, new_sensor: Callable[..., Sensor]
) -> None:
    sensor = new_sensor(receiver.url)
    assert not in_process.job({"cohorts": [5]}, OA_STAGING_REPO_ROOT="/no/such/folder")

    assert [sensor.tick(), sensor.tick()] == ["1 decisions told", "no new decision"]

    [(_, body)] = receiver.got
    assert body["decision"] == "no decision"
    assert "ended (FAILURE) without working on a rollout" in body["reasons"][0]["text"]


def test_without_a_receiver_the_sensor_is_off_and_says_so() -> None:
    on, off = (
        rollout_definitions(STAGING, variables).resolve_sensor_def("staging_canary_decision_sensor")
        for variables in ({"OA_STAGING_CANARY_NOTIFY_URL": "https://x.example"}, {})
    )

    assert on.default_status == dg.DefaultSensorStatus.RUNNING
    assert off.default_status == dg.DefaultSensorStatus.STOPPED
