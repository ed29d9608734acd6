"""Every way to start a rollout: what it takes, what it answers, which setting wins."""

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.resource import LaunchRefusedError
from canary_pipeline.settings import settings_table, variables_of
from canary_pipeline_tests.conftest import (
    TOKEN,
    Checkout,
    Commands,
    InProcess,
    await_true,
    cohort_rows,
    decision,
    statuses,
)
from canary_pipeline_tests.fake_staging import FakeStaging, answer


def launch_config(**values: Any) -> dict[str, Any]:
    return {"resources": {"rollout": {"config": values}}}


def header(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "rollout.json").read_text())
    return found


# -- dagster job execute ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("word", ["allow", "block"])
@pytest.mark.parametrize("way", ["dagster", "canary-rollout"])
def test_with_dagster_a_rollout_answers_as_its_summary_says(
    way: str, word: str, commands: Commands, staging: FakeStaging
) -> None:
    if word == "block":
        staging.probes[100] = answer(500, {})

    if way == "dagster":
        result = commands.job(launch_config(cohorts=[5, 100]))
        assert word == "allow" or "go_no_go" in result.err + result.out
    else:
        result = commands.dagster_rollout("--cohorts", "5,100")
        assert f"Decision: {word}" in result.out.splitlines()[-2:]

    assert result.code == int(word == "block"), result.out + result.err
    [folder] = commands.folders
    assert decision(folder) == f"Decision: {word}"
    assert staging.probed == [5, 100]


def test_a_launch_may_choose_some_of_the_declared_cohorts(
    in_process: InProcess, staging: FakeStaging
) -> None:
    assert in_process.job({"cohorts": [5, 100]})

    [folder] = in_process.commands.folders
    assert [row["cohort_percent"] for row in cohort_rows(folder)] == [5, 100]
    assert staging.probed == [5, 100]


@pytest.mark.slow
def test_an_undeclared_cohort_is_refused_with_how_to_declare_it(commands: Commands) -> None:
    result = commands.job(launch_config(cohorts=[7]))

    assert result.code == 1
    [line] = [line for line in result.err.splitlines() if line.startswith("Error:")]
    assert "cohorts is [7]; accepted: a subset of the declared cohorts 5,10,25,50,100" in line
    assert "set OA_STAGING_CANARY_COHORTS before the code location loads" in line
    assert "Traceback" not in result.err
    assert commands.folders == []


@pytest.mark.parametrize(
    "config",
    [
        {"cohorts": []},
        {"cohorts": [100, 5]},
        {"cohorts": [5, 5]},
        {"cohorts": [7]},
        {"cohorts": None},
        {"cohort_soak_seconds": -1},
        {"control_base_url": "http://elsewhere"},
        {"auth_token": "x"},
        {"repo_root": "/"},
        {"output_dir": "/elsewhere"},
    ],
    ids=str,
)
def test_launch_config_that_is_not_accepted_starts_nothing(
    config: dict[str, Any], commands: Commands, in_process: InProcess, checkout: Checkout
) -> None:
    with pytest.raises((dg.DagsterInvalidConfigError, LaunchRefusedError)):
        in_process.job(config)

    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []
    assert commands.folders == []
    assert checkout.runs_of("sync-security") == 0


# -- precedence -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "variable", "soak"), [(None, None, 900), (None, "3", 3), ("2", "3", 2)]
)
def test_a_flag_wins_over_the_environment_which_wins_over_the_default(
    flag: str | None, variable: str | None, soak: int, commands: Commands
) -> None:
    arguments = ["--cohort-soak-seconds", flag] if flag else []
    more = {
        "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": variable or "",
        "OA_STAGING_CONTROL_AUTH_TOKEN": "",  # nothing to soak
        "OA_STAGING_CONTROL_BASE_URL": "",
    }

    commands.rollout("--cohorts", "5", "--skip-gates", *arguments, more=more)

    [folder] = commands.folders
    assert header(folder)["soak_seconds"] == soak


def test_launch_config_wins_over_the_environment(in_process: InProcess) -> None:
    in_process.job(
        {"cohorts": [5], "cohort_soak_seconds": 1},
        OA_STAGING_CANARY_COHORT_SOAK_SECONDS="3600",
        OA_STAGING_CANARY_COHORTS="5,10",
    )

    [folder] = in_process.commands.folders
    assert header(folder)["soak_seconds"] == 1
    assert header(folder)["cohorts"] == [5]


def test_every_flag_reaches_the_rollout(
    commands: Commands, checkout: Checkout, staging: FakeStaging, tmp_path: Path
) -> None:
    unset = {name: "" for name in commands.environment if name.startswith("OA_")}
    folder = tmp_path / "evidence with spaces"

    result = commands.rollout(
        *("--cohorts", "1, 2"),
        *("--cohort-soak-seconds", "1"),
        *("--control-base-url", staging.url),
        *("--auth-token", TOKEN),
        *("--runtime-metrics-url", f"{staging.url}/metrics?key=hidden"),
        *("--control-status-url", f"{staging.url}/status"),
        *("--repo-root", str(checkout.folder)),
        *("--output-dir", str(folder)),
        *("--gate-timeout-seconds", "50"),
        *("--http-timeout-seconds", "7"),
        more=unset,
    )

    assert result.code == 0
    assert statuses(folder) == [(1, "passed", None), (2, "passed", None)]
    seen = header(folder)
    assert (seen["gate_timeout_seconds"], seen["http_timeout_seconds"]) == (50, 7)
    assert seen["repo_root"] == str(checkout.folder)
    assert seen["runtime_metrics_url"] == f"{staging.url}/metrics?…"
    assert (folder / "control_status_before_1.json").exists()
    assert (folder / "runtime_metrics_after.json").exists()


# -- bad input --------------------------------------------------------------------------------

BAD_FLAGS = [
    ("--cohorts", "5,5"),
    ("--cohorts", ""),
    ("--cohort-soak-seconds", "-1"),
    ("--control-base-url", "https://"),
    ("--runtime-metrics-url", "http://host:port/"),
    ("--auth-token", ""),
    ("--repo-root", "/no/such/folder"),
    ("--gate-timeout-seconds", "0"),
    ("--http-timeout-seconds", "soon"),
]


@pytest.mark.parametrize(("flag", "value"), BAD_FLAGS)
def test_a_bad_flag_is_one_clear_line_and_nothing_is_written(
    flag: str, value: str, commands: Commands
) -> None:
    result = commands.rollout(flag, value)

    assert result.code == 2
    [line] = result.err.splitlines()
    assert line.startswith(f"canary-rollout: {flag} is ")
    assert "; accepted: " in line
    assert result.out == ""
    assert list(commands.folder.iterdir()) == []


@pytest.mark.parametrize(
    "variable",
    [
        variable
        for name, variable in variables_of(STAGING).items()
        if name != "signing_key"  # one that cannot sign is a warning
    ],
)
def test_a_bad_variable_is_one_clear_line_that_names_it(variable: str, commands: Commands) -> None:
    bad = {variable: "two words" if variable.endswith("TOKEN") else "\x01"}
    if variable.endswith("TOKEN_FILE"):
        bad["OA_STAGING_CONTROL_AUTH_TOKEN"] = ""

    result = commands.rollout(more=bad)

    assert result.code == 2
    [line] = result.err.splitlines()
    assert line.startswith(f"canary-rollout: {variable} is ")
    assert list(commands.folder.iterdir()) == []


def test_a_folder_that_holds_something_is_not_used(commands: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "letter").write_text("do not lose me")

    result = commands.rollout("--output-dir", str(folder))

    assert result.code == 2
    assert "is not an empty folder" in result.err
    assert [file.name for file in folder.iterdir()] == ["letter"]


def test_a_folder_that_cannot_be_written_is_no_decision(commands: Commands) -> None:
    result = commands.rollout("--output-dir", "/proc/rollout")

    assert result.code == 3
    assert "the folder /proc/rollout cannot be used (" in result.err


# -- the token --------------------------------------------------------------------------------


def test_the_token_is_in_no_argument_list(commands: Commands, checkout: Checkout) -> None:
    checkout.gate("spacetime-chaos", "until [ -f go ]; do sleep 0.1; done")
    process = commands.start_rollout(
        "--cohorts", "5", "--auth-token", TOKEN, more={"OA_STAGING_CONTROL_AUTH_TOKEN": ""}
    )

    await_true(lambda: checkout.runs_of("spacetime-chaos"))
    arguments = [
        (entry / "cmdline").read_bytes()
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and entry.name != str(os.getpid()) and entry.exists()
    ]

    (checkout.folder / "go").touch()

    assert any(b"core_alone" in line for line in arguments)
    assert not any(TOKEN.encode() in line for line in arguments)
    assert commands.finish(process).code == 0


def test_a_token_file_is_read_again_before_every_request(
    commands: Commands, staging: FakeStaging, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKEN}\n")
    renewed = "renewed-token"

    def renew(handler: Any) -> None:
        staging.token = renewed
        token_file.write_text(renewed)
        answer(200, {"data": {}})(handler)

    staging.probes[5] = renew
    more = {
        "OA_STAGING_CONTROL_AUTH_TOKEN": "",
        "OA_STAGING_CONTROL_AUTH_TOKEN_FILE": str(token_file),
    }

    result = commands.rollout("--cohorts", "5,100", more=more)

    assert result.code == 0
    assert staging.probed == [5, 100]


# -- one at a time ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_rollout_ends_at_once_and_names_the_first(
    commands: Commands, checkout: Checkout
) -> None:
    checkout.gate("spacetime-chaos", "until [ -f go ]; do sleep 0.1; done")
    first = commands.start_rollout("--cohorts", "5")
    await_true(lambda: checkout.runs_of("spacetime-chaos"))

    second = commands.rollout("--cohorts", "5")
    third = commands.job(launch_config(cohorts=[5]))
    (checkout.folder / "go").touch()

    assert second.code == 3
    assert "another rollout of staging is under way: " in second.err
    assert third.code == 1
    assert "EnvironmentTakenError" in third.err
    assert commands.finish(first).code == 0
    assert len(commands.folders) == 1


def test_after_the_owner_is_killed_the_next_rollout_starts(
    commands: Commands, checkout: Checkout
) -> None:
    checkout.gate("spacetime-chaos", "sleep 300")
    first = commands.start_rollout("--cohorts", "5")
    await_true(lambda: checkout.runs_of("spacetime-chaos"))
    first.kill()
    first.wait()
    checkout.gate("spacetime-chaos", "exit 0")

    second = commands.rollout("--cohorts", "5")

    assert second.code == 0


# -- help -------------------------------------------------------------------------------------


def test_help_names_every_flag_and_variable(commands: Commands) -> None:
    result = commands.run("canary-rollout", "run", "--help")

    for setting in settings_table(STAGING).values():
        if setting.flag:
            assert setting.flag in result.out
            assert variables_of(STAGING).get(setting.name, "") in result.out.replace(
                "\n", ""
            ).replace(" ", "")
    assert "--skip-gates" in result.out
