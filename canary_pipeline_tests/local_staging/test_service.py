"""The stand-in answers as the facts sheet says, over real HTTP."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from canary_pipeline.local_staging.routing import VARIABLES
from canary_pipeline.local_staging.stand_in import LocalStaging, local_staging
from canary_pipeline.local_staging.tokens import Issuer
from canary_pipeline_tests.conftest import await_true

EVALUATE = "/api/v1/control/runtime-routing/evaluate"


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStaging]:
    canary = {
        "OA_RUNTIME_CANARY_USER_PERCENT": "21",
        "OA_RUNTIME_SHADOW_ENABLED": "true",
        "OA_RUNTIME_SHADOW_SAMPLE_RATE": "1.0",
    }
    folder = tmp_path_factory.mktemp("staging")
    with local_staging(folder, fault="frozen-metrics", extra_environment=canary) as serving:
        yield serving


def session(staging: LocalStaging, user: str = "usr_staging_probe") -> dict[str, str]:
    return {"Authorization": f"Bearer {Issuer.read(staging.environment).session(user)}"}


def evaluate(
    staging: LocalStaging,
    body: object,
    headers: dict[str, str] | None = None,
    timeout: float = 10,
) -> requests.Response:
    url = f"{staging.base_url}{EVALUATE}"
    return requests.post(url, json=body, headers=headers or session(staging), timeout=timeout)


@pytest.mark.parametrize(
    ("user", "driver", "reason"),
    [
        ("usr_staging_probe", "runtime_service", "user_canary"),  # bucket 20
        ("usr_123", "control_service", "default_driver"),  # bucket 73
    ],
)
def test_a_users_bucket_decides_who_serves(
    user: str, driver: str, reason: str, staging: LocalStaging
) -> None:
    answer = evaluate(staging, {"thread_id": "t", "cohort_key": "x"}, session(staging, user))

    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["driver"], data["reason"]) == (driver, reason)
    assert data["shadow"] == {
        "enabled": True,
        "mirrored": driver == "control_service",
        "sample_rate": 1.0,
        **({"shadow_driver": "runtime_service"} if driver == "control_service" else {}),
    }


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"X": "no token"}, {"thread_id": "t"}, 401, "unauthorized"),
        ({"Authorization": "Bearer nonsense"}, {"thread_id": "t"}, 401, "unauthorized"),
        (None, {"thread_id": " "}, 422, "invalid_request"),
        (None, {}, 422, "invalid_request"),
        (None, ["t"], 422, "invalid_request"),
        (None, {"thread_id": "t", "user_id": "usr_other"}, 403, "forbidden"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_the_documented_words(
    headers: dict[str, str] | None, body: Any, status: int, code: str, staging: LocalStaging
) -> None:
    answer = evaluate(staging, body, headers)

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["message"] == answer.json()["error"]["message"]


def test_a_blank_thread_id_is_named_in_the_errors(staging: LocalStaging) -> None:
    assert list(evaluate(staging, {"thread_id": ""}).json()["errors"]) == ["thread_id"]


def test_an_expired_session_is_refused(staging: LocalStaging) -> None:
    token = Issuer.read(staging.environment).session(life=timedelta(seconds=-1))

    answer = evaluate(staging, {"thread_id": "t"}, {"Authorization": f"Bearer {token}"})

    assert answer.status_code == 401


def test_the_status_tells_which_percents_are_live(staging: LocalStaging) -> None:
    url = f"{staging.base_url}/api/v1/control/runtime-routing/status"

    data = requests.get(url, headers=session(staging), timeout=10).json()["data"]

    assert (data["canary_user_percent"], data["canary_autopilot_percent"]) == (21, 0)
    control = requests.get(
        staging.environment["OA_CONTROL_STATUS_URL"], headers=session(staging), timeout=10
    )
    assert control.json()["data"]["runtimeRouting"] == data
    assert requests.get(url, timeout=10).status_code == 401


def metrics(staging: LocalStaging) -> dict[str, float]:
    """Every number of the runtime metrics by its group and name."""
    answer = requests.get(staging.environment["OA_RUNTIME_METRICS_URL"], timeout=10).json()
    groups = ("mirror", "delivery", "auth_failures")
    return {f"{group}.{name}": value for group in groups for name, value in answer[group].items()}


def test_the_metrics_count_what_happens(staging: LocalStaging) -> None:
    token = Issuer.read(staging.environment).sync(["topic"])
    url = f"{staging.base_url}/internal/v1/spacetime/topics/topic/messages"
    headers = {"Authorization": f"Bearer {token}"}
    before = metrics(staging)
    for _ in range(2):
        message = {"message_id": "m", "payload": "p"}
        requests.post(url, json=message, headers=headers, timeout=10).raise_for_status()
    requests.get(url, headers=headers, timeout=10).raise_for_status()
    assert requests.get(f"{url}?after=9", headers=headers, timeout=10).status_code == 409
    requests.get(url, timeout=10)

    after = metrics(staging)
    assert after.pop("mirror.duplicate_suppression_rate_pct") > before.pop(
        "mirror.duplicate_suppression_rate_pct"
    )
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        "mirror.published_total": 1,
        "mirror.duplicate_suppressed_total": 1,
        "delivery.total_polls": 2,
        "delivery.served_messages": 1,
        "delivery.stale_cursor_events_total": 1,
        "auth_failures.unauthorized_total": 1,
    }


def test_maintenance_is_an_html_page(tmp_path: Path) -> None:
    with local_staging(tmp_path, extra_environment={"LOCAL_STAGING_MAINTENANCE": "1"}) as staging:
        answer = evaluate(staging, {"thread_id": "t"})

    assert answer.status_code == 503
    assert answer.headers["Content-Type"].startswith("text/html")


def test_the_stand_in_listens_on_loopback_only(staging: LocalStaging) -> None:
    assert staging.base_url.startswith("http://127.0.0.1:")


NEVER_WHILE_ALL_IS_WELL = {"mirror.failed_total", "delivery.dropped_messages_total"}


def serving_at(
    percent: int, folder: Path, fault: str | None = None
) -> AbstractContextManager[LocalStaging]:
    """A stand-in at whose percent nobody but the test looks."""
    variables = {name: str(percent) for name in VARIABLES[:2]}
    return local_staging(folder, fault=fault, extra_environment=variables)


def percent_of(staging: LocalStaging) -> int:
    url = f"{staging.base_url}/api/v1/control/runtime-routing/status"
    answer = requests.get(url, headers=session(staging), timeout=10)
    return int(answer.json()["data"]["canary_user_percent"])


def test_traffic_moves_every_number_and_no_message_is_lost(tmp_path: Path) -> None:
    with serving_at(100, tmp_path) as staging:
        before, moved = metrics(staging), set[str]()

        def have_moved() -> bool:
            after = metrics(staging)
            moved.update(name for name in after if after[name] != before[name])
            assert all(after[name] >= before[name] for name in after if name.endswith("_total"))
            return moved == before.keys() - NEVER_WHILE_ALL_IS_WELL

        await_true(have_moved, every=0.2)
        assert [before[name] for name in NEVER_WHILE_ALL_IS_WELL] == [0, 0]


@pytest.mark.parametrize("percent", [25, 50])
def test_errors_climb_from_25_on(percent: int, tmp_path: Path) -> None:
    with serving_at(percent, tmp_path, "errors-at-25") as staging:
        before = metrics(staging)

        def climbed() -> bool:
            after = metrics(staging)
            return all(after[name] > before[name] for name in NEVER_WHILE_ALL_IS_WELL)

        await_true(climbed)


def test_below_25_there_are_no_errors(tmp_path: Path) -> None:
    with serving_at(24, tmp_path, "errors-at-25") as staging:
        polls = metrics(staging)["delivery.total_polls"]

        await_true(lambda: metrics(staging)["delivery.total_polls"] > polls + 10)

        assert {metrics(staging)[name] for name in NEVER_WHILE_ALL_IS_WELL} == {0}


@pytest.mark.parametrize(("percent", "lags"), [(24, False), (25, True), (50, True)])
def test_lag_is_high_from_25_on(percent: int, lags: bool, tmp_path: Path) -> None:  # noqa: FBT001
    with serving_at(percent, tmp_path, "lag-at-25") as staging:
        assert (metrics(staging)["delivery.max_replay_lag"] > 500) == lags


@pytest.mark.parametrize(("percent", "status"), [(24, 200), (25, 503), (50, 503)])
def test_the_metrics_vanish_from_25_on(percent: int, status: int, tmp_path: Path) -> None:
    with serving_at(percent, tmp_path, "metrics-vanish-at-25") as staging:
        url = staging.environment["OA_RUNTIME_METRICS_URL"]
        assert requests.get(url, timeout=10).status_code == status
        assert evaluate(staging, {"thread_id": "t"}).status_code == 200


def test_a_crash_loop_counts_from_0_again_and_again(tmp_path: Path) -> None:
    with serving_at(24, tmp_path / "24", "crash-loop-at-25") as staging:
        assert metrics(staging)["delivery.total_polls"] > 1000
    with serving_at(25, tmp_path / "25", "crash-loop-at-25") as staging:
        last, falls = 0.0, 0

        def fell_twice() -> bool:
            nonlocal last, falls
            polls = metrics(staging)["delivery.total_polls"]
            falls += polls < last
            last = polls
            assert polls < 100
            return falls == 2

        await_true(fell_twice)


def test_frozen_metrics_never_move(staging: LocalStaging) -> None:
    url = staging.environment["OA_RUNTIME_METRICS_URL"]
    before, began = metrics(staging), requests.get(url, timeout=10).json()["generated_at"]

    await_true(lambda: requests.get(url, timeout=10).json()["generated_at"] > began)

    assert metrics(staging) == before
    assert before["delivery.total_polls"] > 1000


@pytest.mark.parametrize("percent", [25, 50])
def test_a_dip_follows_the_probe_of_cohort_25_and_ends(percent: int, tmp_path: Path) -> None:
    with serving_at(percent, tmp_path, "dip-at-25") as staging:
        evaluate(staging, {"thread_id": f"staging-canary-thread-{percent}"})
        assert percent_of(staging) == percent
        if percent == 25:
            await_true(lambda: percent_of(staging) == 0)
            await_true(lambda: percent_of(staging) == percent)


def test_the_control_service_dies_after_the_probe_of_cohort_25(tmp_path: Path) -> None:
    with serving_at(25, tmp_path, "control-dies-at-25") as staging:
        probes = {cohort: {"thread_id": f"staging-canary-thread-{cohort}"} for cohort in (10, 25)}
        assert [evaluate(staging, probe).status_code for probe in probes.values()] == [200, 200]

        await_true(lambda: evaluate(staging, probes[25]).status_code == 503)

        assert evaluate(staging, probes[25]).status_code == 503
        assert percent_of(staging) == 25


@pytest.mark.parametrize(("cohort", "status"), [(10, 200), (25, 500), (50, 200), (100, 200)])
def test_error_at_25_breaks_the_probe_of_that_cohort_alone(
    cohort: int, status: int, erring: LocalStaging
) -> None:
    answer = evaluate(erring, {"thread_id": f"staging-canary-thread-{cohort}"})

    assert answer.status_code == status
    assert ("error" in answer.json()) == (status == 500)


@pytest.fixture(scope="module")
def erring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStaging]:
    with local_staging(tmp_path_factory.mktemp("erring"), fault="error-at-25") as serving:
        yield serving


def test_hang_answers_cohort_5_and_holds_cohort_10(tmp_path: Path) -> None:
    with local_staging(tmp_path, fault="hang") as staging:
        assert evaluate(staging, {"thread_id": "staging-canary-thread-5"}).status_code == 200
        with pytest.raises(requests.Timeout):
            evaluate(staging, {"thread_id": "staging-canary-thread-10"}, timeout=0.3)
