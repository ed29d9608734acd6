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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_drill_that_is_stopped_leaves_no_server(number: signal.Signals, tmp_path: Path) -> None:
    marker = f"MARKER={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-m", "canary_pipeline.local_staging.drills", "chaos"],
        env={**os.environ, "MARKER": str(tmp_path), "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )

    def servers() -> list[Path]:
        return [
            entry
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and entry.name != str(process.pid) and _holds(entry, marker)
        ]

    await_true(servers)
    process.send_signal(number)
    process.wait()

    await_true(lambda: not servers())


def _holds(entry: Path, marker: str) -> bool:
    try:
        return marker.encode() in (entry / "environ").read_bytes()
    except OSError:
        return False


def test_every_fault_is_described() -> None:
    assert all(description for description in FAULTS.values())
