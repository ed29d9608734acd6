"""The stand-in answers as the facts sheet says, over real HTTP."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from canary_pipeline.local_staging.stand_in import LocalStaging, local_staging
from canary_pipeline.local_staging.tokens import Issuer

EVALUATE = "/api/v1/control/runtime-routing/evaluate"


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStaging]:
    canary = {
        "OA_RUNTIME_CANARY_USER_PERCENT": "21",
        "OA_RUNTIME_SHADOW_ENABLED": "true",
        "OA_RUNTIME_SHADOW_SAMPLE_RATE": "1.0",
    }
    with local_staging(tmp_path_factory.mktemp("staging"), extra_environment=canary) as serving:
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


def test_the_metrics_count_what_happens(staging: LocalStaging) -> None:
    def metrics() -> Any:
        return requests.get(staging.environment["OA_RUNTIME_METRICS_URL"], timeout=10).json()

    token = Issuer.read(staging.environment).sync(["topic"])
    url = f"{staging.base_url}/internal/v1/spacetime/topics/topic/messages"
    headers = {"Authorization": f"Bearer {token}"}
    before = metrics()
    for _ in range(2):
        message = {"message_id": "m", "payload": "p"}
        requests.post(url, json=message, headers=headers, timeout=10).raise_for_status()
    requests.get(url, headers=headers, timeout=10).raise_for_status()
    requests.get(url, timeout=10)

    after = metrics()
    changed = {
        f"{group}.{name}": after[group][name] - before[group][name]
        for group in ("mirror", "delivery", "auth_failures")
        for name in after[group]
        if after[group][name] != before[group][name]
    }
    assert changed == {
        "mirror.published_total": 1,
        "mirror.duplicate_suppressed_total": 1,
        "mirror.duplicate_suppression_rate_pct": 50.0,
        "delivery.total_polls": 1,
        "delivery.served_messages": 1,
        "delivery.max_replay_lag": 1,
        "auth_failures.unauthorized_total": 1,
    }


def test_maintenance_is_an_html_page(tmp_path: Path) -> None:
    with local_staging(tmp_path, extra_environment={"LOCAL_STAGING_MAINTENANCE": "1"}) as staging:
        answer = evaluate(staging, {"thread_id": "t"})

    assert answer.status_code == 503
    assert answer.headers["Content-Type"].startswith("text/html")


def test_the_stand_in_listens_on_loopback_only(staging: LocalStaging) -> None:
    assert staging.base_url.startswith("http://127.0.0.1:")


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


def test_a_cursor_beyond_the_topic_is_stale_and_counted(staging: LocalStaging) -> None:
    token = Issuer.read(staging.environment).sync(["empty"])
    answer = requests.get(
        f"{staging.base_url}/internal/v1/spacetime/topics/empty/messages?after=1",
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "stale_cursor"
    metrics = requests.get(staging.environment["OA_RUNTIME_METRICS_URL"], timeout=10).json()
    assert metrics["delivery"]["stale_cursor_events_total"] == 1
