"""A newcomer's first rollout, what it does when staging misbehaves, and what it leaves alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from canary_pipeline.commands.demo import stand_in_environment
from canary_pipeline.environments import DEMO, served
from canary_pipeline.local_staging.stand_in import local_staging
from canary_pipeline_tests.conftest import CORE, Commands, cohort_rows, decision, gate_rows

TITLE = "# Demo of a Staging Canary Rollout"


@pytest.fixture
def unconfigured(commands: Commands, new_dagster_home: Path, tmp_path: Path) -> Commands:
    """The commands on a machine where nothing is set."""
    for name in list(commands.environment):
        if name.startswith(("OA_", "DAGSTER_", "CANARY_")):
            del commands.environment[name]
    state = tmp_path / "state"
    commands.environment["XDG_STATE_HOME"] = str(state)
    shutil.copytree(new_dagster_home, state / "canary-pipeline/demo-dagster")
    return commands


def demo_folder(commands: Commands) -> Path:
    """The folder of the one demo; there is no other output."""
    [folder] = (commands.folder / "output").glob("*/*")
    assert folder.parent.name == "demo"
    assert folder.name.startswith("demo-2")
    return folder


def test_the_demo_is_allowed_with_nothing_configured(unconfigured: Commands) -> None:
    result = unconfigured.run("canary-rollout", "demo", "--cohort-soak-seconds", "0")

    assert result.code == 0, result.out + result.err
    *_, last, suggestion = result.out.splitlines()
    assert last == "Decision: allow"
    assert "make dev" in suggestion
    assert "canary-rollout demo --fault list" in suggestion
    folder = demo_folder(unconfigured)
    assert [row["status"] for row in gate_rows(folder)] == ["passed"] * 4
    assert [row["http_status"] for row in cohort_rows(folder)] == [200] * 5
    assert len(list(folder.glob("control_status_*.json"))) == 12
    summary = (folder / "SUMMARY.md").read_text()
    assert summary.splitlines()[0] == TITLE
    assert "Warnings\n\nNone." in summary


def test_the_demo_takes_nothing_of_a_real_set_up_and_leaves_nothing_there(
    unconfigured: Commands, tmp_path: Path
) -> None:
    real, changed = tmp_path / "real", tmp_path / "staging-was-changed"
    real.mkdir()
    home = tmp_path / "dagster"
    before = {file: file.stat().st_mtime_ns for file in home.rglob("*")}

    result = unconfigured.run(
        "canary-rollout", "demo", "--cohort-soak-seconds", "0", "--cohorts", "5,25",
        more={
            "DAGSTER_HOME": str(home),
            "CANARY_PIPELINE_CLAIM_DIR": str(real),
            "OA_STAGING_CANARY_APPLY_COMMAND": f"touch {changed}",
            "OA_STAGING_CANARY_ROLLBACK_COMMAND": f"touch {changed}",
            "OA_STAGING_CANARY_COHORTS": "7",
            "OA_STAGING_CANARY_GATE_TIMEOUT_SECONDS": "1",
            "OA_STAGING_CONTROL_BASE_URL": "http://127.0.0.1:9",
            "OA_STAGING_CONTROL_AUTH_TOKEN": "real",
            "OA_RUNTIME_CANARY_USER_PERCENT": "50",
            "LOCAL_STAGING_FAULT": "error-at-25",
        },
    )  # fmt: skip

    assert result.code == 0, result.out + result.err
    assert [row["cohort_percent"] for row in cohort_rows(demo_folder(unconfigured))] == [5, 25]
    assert not changed.exists()
    assert list(real.iterdir()) == []
    assert {file: file.stat().st_mtime_ns for file in home.rglob("*")} == before


def test_the_ui_with_the_stand_in_takes_nothing_of_a_real_set_up(tmp_path: Path) -> None:
    names = (
        "OA_STAGING_CANARY_APPLY_COMMAND", "OA_STAGING_CANARY_COHORTS", "OA_ANYTHING",
        "OA_CANARY_ENVIRONMENTS", "CANARY_PIPELINE_ROLLOUT", "CANARY_PIPELINE_CLAIM_DIR",
        "CANARY_PIPELINE_OUTPUT_ROOT", "DAGSTER_HOME",
    )  # fmt: skip
    with (
        patch.dict(os.environ, {**dict.fromkeys(names, "real"), "XDG_STATE_HOME": str(tmp_path)}),
        stand_in_environment(),
    ):
        assert "real" not in os.environ.values()
        assert os.environ["DAGSTER_HOME"] == str(tmp_path / "canary-pipeline/demo-dagster")
        assert served(os.environ).rolled_out_to == (DEMO,)
        assert DEMO.output_root == "output/demo"
        assert "mirror.failed_total<=0" in os.environ["OA_STAGING_CANARY_LIMITS"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error-at-25", "cohort 25 % failed: probe answered 500"),
        ("broken-replay", "gate spacetime-replay-resume failed: exit code 1"),
        ("hang", "cohort 10 % failed: timeout"),
    ],
)
def test_a_fault_blocks_and_says_why(fault: str, reason: str, unconfigured: Commands) -> None:
    result = unconfigured.run(*CORE, "demo", "--fault", fault, "--cohort-soak-seconds", "0")

    assert result.code == 1
    folder = demo_folder(unconfigured)
    assert decision(folder) == "Decision: block"
    assert reason in result.out
    assert reason in (folder / "SUMMARY.md").read_text()


@pytest.mark.parametrize("name", ["jwt", "starlette", "uvicorn"])
@pytest.mark.parametrize("command", ["demo", "dev"])
def test_without_its_extra_the_demo_says_what_to_install(
    name: str, command: str, unconfigured: Commands
) -> None:
    script = (
        f"import sys; sys.modules['{name}'] = None\n"
        "from canary_pipeline.commands.main import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, command],
        cwd=unconfigured.folder,
        env=unconfigured.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"canary-rollout: the stand-in needs {name}; to install that: "
        "pip install 'canary-pipeline[demo]'"
    ]
    assert not list(unconfigured.folder.iterdir())


def test_an_unknown_fault_is_bad_input(unconfigured: Commands) -> None:
    result = unconfigured.run("canary-rollout", "demo", "--fault", "gremlins")

    assert result.code == 2
    assert "accepted: error-at-25, hang" in result.err


def test_the_seeds_own_lane_and_with_it_its_command_roll_out(unconfigured: Commands) -> None:
    with local_staging(unconfigured.folder / "staging") as staging:
        checkout = staging.environment["OA_STAGING_REPO_ROOT"]
        lane = f"{checkout}/scripts/local-ci.sh spacetime-staging-canary"
        result = subprocess.run(  # noqa: S602 - as people type it
            f"{lane} --cohorts 5 --cohort-soak-seconds 0",
            shell=True,
            cwd=unconfigured.folder,
            env={**unconfigured.environment, **staging.environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "Decision: allow" in result.stdout.splitlines()[-2:]
