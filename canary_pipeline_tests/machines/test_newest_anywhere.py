"""What one host decides is the newest decision on every other one, whatever that has seen."""

import re
import subprocess
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import TOKEN, decision, gate_rows
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.machines.conftest import Host, World

FILE = """\
name = "staging"
cohorts = [10]
soak_seconds = 0
[gates]
sync-security = "true"
[environments.staging-us]
[environments.staging-eu]
after = "staging-us"
"""
ROOT = "output/canary/spacetime"


@pytest.fixture
def hosts(world: World, staging: FakeStaging, tmp_path: Path) -> tuple[Host, Host]:
    """Two hosts with one checkout under version control, and a file of environments."""
    file, checkout = tmp_path / "envs.toml", world.checkout.folder
    file.write_text(FILE)
    (checkout / ".gitignore").write_text("started/\n")
    who = ("-c", "user.name=test", "-c", "user.email=test@example")
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=checkout, check=True)  # noqa: S607
    variables = {"OA_CANARY_ENVIRONMENTS": str(file)}
    for name in ("STAGING_US", "STAGING_EU"):
        variables[f"OA_{name}_REPO_ROOT"] = str(checkout)
        variables[f"OA_{name}_CONTROL_BASE_URL"] = staging.url
        variables[f"OA_{name}_CONTROL_AUTH_TOKEN"] = TOKEN
    for host in world.hosts:
        host.commands.environment |= variables
    return world.hosts


def roll_out(host: Host, environment: str, *arguments: str) -> Path:
    """Roll out to an environment; the folder."""
    result = host.run("run", "--environment", environment, *arguments)
    found = re.search(r"rollout folder: (.+)", result.out)
    assert found, result.err
    return Path(found[1])


def why_not(folder: Path) -> object:
    """Why the gate that comes after another environment failed."""
    [row] = [row for row in gate_rows(folder) if row["gate"] == "after-staging-us"]
    return row.get("detail")


def verify(host: Host, commit: str) -> int:
    asked = ("--environment", "staging-us", "--commit", commit)
    return host.run("verify", ROOT, *asked).code


def test_an_environment_after_another_knows_what_any_host_has_decided_of_that(
    hosts: tuple[Host, Host],
) -> None:
    one, other = hosts
    assert decision(roll_out(one, "staging-us")) == "Decision: allow"
    assert decision(roll_out(other, "staging-eu")) == "Decision: allow"

    blocked = roll_out(other, "staging-us", "--skip-gates")

    assert why_not(roll_out(one, "staging-eu")) == (
        f"the newest rollout of staging-us, {blocked.name}, is no allow: block"
    )


def test_a_newer_block_of_another_host_is_what_a_root_is_verified_by(
    hosts: tuple[Host, Host], world: World
) -> None:
    one, other = hosts
    git = ["git", "rev-parse", "HEAD"]
    found = subprocess.run(git, cwd=world.checkout.folder, capture_output=True, check=True)
    commit = found.stdout.decode().strip()
    allowed = roll_out(one, "staging-us")
    assert verify(one, commit) == 0

    roll_out(other, "staging-us", "--skip-gates", "--output-dir", "named-by-a-person")
    assert verify(one, commit) == 1

    resumed = other.run("resume", "--superseded", allowed.name)
    assert resumed.code == 0, resumed.out + resumed.err
    assert verify(one, commit) == 0


def test_where_the_store_does_not_answer_no_older_decision_answers_for_it(
    hosts: tuple[Host, Host], world: World
) -> None:
    one, _ = hosts
    roll_out(one, "staging-us")
    there = world.shared / "rollouts"
    there.rename(there.with_name("away"))
    there.touch()

    assert one.run("verify", ROOT, "--environment", "staging-us").code == 3
    assert one.run("verify", ROOT, "--environment", "staging-us", "--json").out == ""
