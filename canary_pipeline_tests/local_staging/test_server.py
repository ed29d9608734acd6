"""The stand-in as a process: how it starts, and that it always ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from canary_pipeline.local_staging.stand_in import (
    CHECKOUT,
    StandInError,
    local_staging,
    server_process,
)
from canary_pipeline_tests.conftest import await_true
from canary_pipeline_tests.local_staging.conftest import serves

SERVER = [sys.executable, "-m", "canary_pipeline.local_staging.server"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_it_ends_at_once_even_while_it_holds_a_request(
    number: signal.Signals | None, tmp_path: Path
) -> None:
    variables = {**os.environ, "LOCAL_STAGING_FAULT": "hang"}
    connected = threading.Event()
    with ThreadPoolExecutor() as pool, server_process(tmp_path, variables) as (process, base_url):
        answer = pool.submit(ask_what_hangs, base_url, tmp_path, connected)
        assert connected.wait(10)
        assert process.stdin is not None
        started = time.monotonic()
        if number is None:
            process.stdin.close()
        else:
            process.send_signal(number)
        process.wait(10)
        seconds = time.monotonic() - started

        with pytest.raises(requests.ConnectionError):
            answer.result(10)

    assert seconds < 1
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log
    assert "Fatal" not in log


def ask_what_hangs(base_url: str, state_dir: Path, connected: threading.Event) -> None:
    with requests.Session() as session:
        session.get(f"{base_url}/health", timeout=10)
        connected.set()
        session.post(
            f"{base_url}/api/v1/control/runtime-routing/evaluate",
            json={"thread_id": "staging-canary-thread-10"},
            headers={"Authorization": f"Bearer {(state_dir / 'session-token').read_text()}"},
            timeout=10,
        )


def test_it_ends_with_whoever_started_it_however_that_ends(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path;"
            "from canary_pipeline.local_staging.stand_in import local_staging\n"
            "with local_staging(Path(sys.argv[1])) as s: print(s.base_url, flush=True); input()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    base_url = starter.stdout.readline().strip()
    assert serves(base_url)

    starter.kill()
    starter.communicate()

    await_true(lambda: not serves(base_url))


def test_it_gives_what_a_rollout_needs_and_nothing_else(tmp_path: Path) -> None:
    with local_staging(tmp_path, fault="hang") as staging:
        environment = staging.environment
        assert serves(staging.base_url)

    assert not serves(staging.base_url)
    assert set(environment) == {
        "OA_STAGING_CONTROL_BASE_URL", "OA_STAGING_CONTROL_AUTH_TOKEN_FILE",
        "OA_RUNTIME_METRICS_URL", "OA_CONTROL_STATUS_URL", "OA_STAGING_REPO_ROOT",
        "OA_SPACETIME_STAGING_HTTP_BASE_URL", "OA_SPACETIME_STAGING_DATABASE",
        "OA_SPACETIME_STAGING_TOKEN_ISSUER", "OA_SPACETIME_STAGING_TOKEN_AUDIENCE",
        "OA_SPACETIME_STAGING_JWT_SIGNING_KEY",
        "LOCAL_STAGING_FAULT", "LOCAL_STAGING_PYTHON", "LOCAL_STAGING_STATE_DIR", "no_proxy",
    }  # fmt: skip
    assert environment["LOCAL_STAGING_FAULT"] == "hang"
    assert Path(environment["OA_STAGING_REPO_ROOT"]) == staging.checkout == CHECKOUT
    assert Path(environment["OA_STAGING_CONTROL_AUTH_TOKEN_FILE"]).is_file()


def test_hosts_that_no_proxy_is_asked_for_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intranet.example")

    with local_staging(tmp_path) as staging:
        assert staging.environment["no_proxy"] == "intranet.example,127.0.0.1"


def test_an_unknown_fault_is_wrong_usage(tmp_path: Path) -> None:
    result = subprocess.run(
        [*SERVER, "--state-dir", tmp_path],
        env={**os.environ, "LOCAL_STAGING_FAULT": "gremlin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert result.returncode == 2
    assert "LOCAL_STAGING_FAULT is 'gremlin'; accepted: error-at-25, hang" in result.stderr


def test_a_stand_in_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(StandInError, match="accepted: error-at-25"),
        local_staging(tmp_path, fault="gremlin"),
    ):
        pass


def test_it_can_be_started_by_hand_with_nothing_set(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OA_", "LOCAL_"))
    }
    process = subprocess.Popen(
        [*SERVER, "--port", "0", "--state-dir", tmp_path / "state", "--ready-file", ready_file],
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    try:
        await_true(ready_file.exists)
        token = (tmp_path / "state/session-token").read_text()
        answer = requests.post(
            f"{ready_file.read_text()}/api/v1/control/runtime-routing/evaluate",
            json={"thread_id": "t"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        assert answer.status_code == 200
    finally:
        process.terminate()
        process.wait()
