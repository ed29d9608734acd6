"""A newcomer's first rollout, and what it does when staging misbehaves."""

import subprocess

import pytest

from canary_pipeline.local_staging.stand_in import local_staging
from canary_pipeline_tests.conftest import Commands, cohort_rows, decision, gate_rows


@pytest.fixture
def unconfigured(commands: Commands) -> Commands:
    """The commands on a machine where nothing is set."""
    for name in list(commands.environment):
        if name.startswith(("OA_", "DAGSTER_", "CANARY_")):
            del commands.environment[name]
    return commands


def test_the_demo_is_allowed_with_nothing_configured(unconfigured: Commands) -> None:
    result = unconfigured.run("canary-rollout", "demo", "--cohort-soak-seconds", "0")

    assert result.code == 0, result.out + result.err
    assert result.out.splitlines()[-1] == "Decision: allow"
    [folder] = unconfigured.folders
    assert [row["status"] for row in gate_rows(folder)] == ["passed"] * 4
    assert [row["http_status"] for row in cohort_rows(folder)] == [200] * 5
    assert len(list(folder.glob("control_status_*.json"))) == 12
    assert "Warnings\n\nNone." in (folder / "SUMMARY.md").read_text()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error-at-25", "cohort 25 % failed: probe answered 500"),
        ("broken-replay", "gate spacetime-replay-resume failed: exit code 1"),
        ("hang", "cohort 10 % failed: timeout"),
    ],
)
def test_a_fault_blocks_and_says_why(fault: str, reason: str, unconfigured: Commands) -> None:
    result = unconfigured.run(
        "canary-rollout", "demo", "--fault", fault, "--cohort-soak-seconds", "0",
        more={"OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": "1"},
    )  # fmt: skip

    assert result.code == 1
    [folder] = unconfigured.folders
    assert decision(folder) == "Decision: block"
    assert reason in result.out
    assert reason in (folder / "SUMMARY.md").read_text()


def test_an_unknown_fault_is_bad_input(unconfigured: Commands) -> None:
    result = unconfigured.run("canary-rollout", "demo", "--fault", "gremlins")

    assert result.code == 2
    assert "accepted: error-at-25, hang" in result.err


def test_the_seeds_own_command_and_lane_roll_out(unconfigured: Commands) -> None:
    with local_staging(unconfigured.folder / "staging") as staging:
        checkout = staging.environment["OA_STAGING_REPO_ROOT"]
        for script in (
            f"{checkout}/scripts/spacetime/run-staging-canary-rollout.sh",
            f"{checkout}/scripts/local-ci.sh spacetime-staging-canary",
        ):
            result = subprocess.run(  # noqa: S602 - as people type it
                f"{script} --cohorts 5 --cohort-soak-seconds 0",
                shell=True,
                cwd=unconfigured.folder,
                env={**unconfigured.environment, **staging.environment},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

            assert result.returncode == 0, result.stdout + result.stderr
            assert result.stdout.splitlines()[-1] == "Decision: allow"
