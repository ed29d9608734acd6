"""The scripts that the gates run really check: each fault turns its gate red."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from canary_pipeline.local_staging.faults import FAULTS
from canary_pipeline.local_staging.stand_in import CHECKOUT, local_staging
from canary_pipeline_tests.conftest import await_true
from canary_pipeline_tests.local_staging.conftest import serves

DRILLS = ("spacetime-replay-resume", "spacetime-chaos", "sync-security")


def script(
    name: str,
    *arguments: str,
    checkout: Path = CHECKOUT,
    variables: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "LOCAL_STAGING_PYTHON": sys.executable, **(variables or {})}
    return subprocess.run(
        ["/bin/bash", "-c", f'scripts/{name} "$@"', "gate", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("lane", DRILLS)
def test_a_lane_passes_on_a_staging_that_is_well(lane: str) -> None:
    result = script("local-ci.sh", lane)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "FAILED" not in result.stdout


@pytest.mark.parametrize(
    ("fault", "lane", "said"),
    [
        ("broken-replay", "spacetime-replay-resume", "FAILED  a resumed reader"),
        ("lost-on-crash", "spacetime-chaos", "FAILED  restart: nothing acknowledged is lost"),
        ("open-door", "sync-security", "FAILED  no token cannot read"),
    ],
)
def test_a_fault_turns_its_lane_red(fault: str, lane: str, said: str) -> None:
    result = script("local-ci.sh", lane, variables={"LOCAL_STAGING_FAULT": fault})

    assert result.returncode == 1
    assert said in result.stdout


def test_the_provision_check_asks_the_service_how_it_is(tmp_path: Path) -> None:
    with local_staging(tmp_path / "well") as staging:
        well = script("spacetime/provision-check.sh", "staging", variables=staging.environment)
    with local_staging(tmp_path / "ill", fault="unhealthy") as staging:
        ill = script("spacetime/provision-check.sh", "staging", variables=staging.environment)
    gone = script("spacetime/provision-check.sh", "staging", variables=staging.environment)

    assert (well.returncode, ill.returncode, gone.returncode) == (0, 1, 1)
    assert "503" in ill.stderr


def test_the_provision_check_names_everything_that_is_missing() -> None:
    result = script("spacetime/provision-check.sh", "staging")

    assert result.returncode == 1
    for name in ("HTTP_BASE_URL", "DATABASE", "TOKEN_ISSUER", "TOKEN_AUDIENCE", "JWT_SIGNING_KEY"):
        assert f"OA_SPACETIME_STAGING_{name}" in result.stderr


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("local-ci.sh", []),
        ("local-ci.sh", ["no-such-lane"]),
        ("spacetime/provision-check.sh", ["production"]),
    ],
)
def test_wrong_usage_is_exit_code_2(name: str, arguments: list[str]) -> None:
    result = script(name, *arguments)

    assert result.returncode == 2
    assert "usage:" in result.stderr


def test_a_checkout_may_lie_anywhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "with spaces and 'quotes'"
    shutil.copytree(CHECKOUT, elsewhere)

    assert script("local-ci.sh", "sync-security", checkout=elsewhere).returncode == 0


@pytest.mark.parametrize("lane", DRILLS)
def test_no_proxy_stands_between_a_lane_and_its_own_server(lane: str) -> None:
    nowhere = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}

    assert script("local-ci.sh", lane, variables=nowhere).returncode == 0


def test_no_proxy_stands_between_the_provision_check_and_the_stand_in(tmp_path: Path) -> None:
    with local_staging(tmp_path) as staging:
        variables = {**staging.environment, "http_proxy": "http://127.0.0.1:9"}
        result = script("spacetime/provision-check.sh", "staging", variables=variables)

    assert result.returncode == 0, result.stderr


def test_the_checkout_is_not_written_to(tmp_path: Path) -> None:
    checkout, temporary = tmp_path / "checkout", tmp_path / "temporary"
    shutil.copytree(CHECKOUT, checkout)
    temporary.mkdir()
    before = sorted(checkout.rglob("*"))

    for lane in DRILLS:
        script("local-ci.sh", lane, checkout=checkout, variables={"TMPDIR": str(temporary)})

    assert sorted(checkout.rglob("*")) == before
    assert list(temporary.iterdir()) == []


def test_an_unknown_fault_is_a_failed_lane_that_says_so() -> None:
    result = script("local-ci.sh", "sync-security", variables={"LOCAL_STAGING_FAULT": "gremlin"})

    assert result.returncode == 1
    assert "LOCAL_STAGING_FAULT is 'gremlin'; accepted: error-at-25" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_lane_that_is_stopped_leaves_no_server(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [CHECKOUT / "scripts/local-ci.sh", "spacetime-replay-resume"],
        env={**os.environ, "LOCAL_STAGING_PYTHON": sys.executable, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    [ready_file] = await_true(lambda: list(tmp_path.glob("*/base-url")))
    base_url = ready_file.read_text()

    process.send_signal(number)
    process.wait()

    await_true(lambda: not serves(base_url))
    if number == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []


def test_every_fault_is_described() -> None:
    assert all(description for description in FAULTS.values())
