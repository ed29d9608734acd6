"""The tools that Dagster users have in their fingers, in a checkout of this project."""

import shutil
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import Commands, decision

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def project(commands: Commands) -> Commands:
    """Commands in a folder that looks to them like a checkout of this project."""
    for name in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(CHECKOUT / name, commands.folder)
    (commands.folder / "canary_pipeline").symlink_to(CHECKOUT / "canary_pipeline")
    commands.environment["OA_STAGING_CANARY_COHORTS"] = "5"
    return commands


def test_dg_checks_and_lists_the_definitions(project: Commands) -> None:
    checked = project.run("dg", "check", "defs")
    listed = project.run("dg", "list", "defs", "--json")

    assert checked.code == 0, checked.err
    assert listed.code == 0, listed.err
    for name in ("staging_canary/summary", "staging_canary_rollout_schedule", "go_no_go"):
        assert name in listed.out


def test_dg_launches_the_job(project: Commands) -> None:
    launched = project.run("dg", "launch", "--job", "staging_canary_rollout")

    assert launched.code == 0, launched.err[-2000:]
    [folder] = project.folders
    assert decision(folder) == "Decision: allow"


def test_the_workspace_file_validates(project: Commands) -> None:
    result = project.run("dagster", "definitions", "validate", "-w", "workspace.yaml")

    assert result.code == 0, result.err
