"""Rollouts that really change staging: applied, verified, and rolled back when they block."""

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline_tests.conftest import (
    Checkout,
    Commands,
    InProcess,
    Result,
    await_true,
    cohort_rows,
    decision,
    files_with,
    statuses,
)
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.live_staging import (
    APPLY,
    APPLY_VARIABLE,
    ON_BLOCK_VARIABLE,
    ROLLBACK_VARIABLE,
    TIMEOUT_VARIABLE,
    TOKEN_FILE_VARIABLE,
    VARIABLES,
    LiveStaging,
    commands_by_hand,
    let_change,
    rollback_rows,
    section,
)
from canary_pipeline_tests.test_dagster_dev import TERMINATE, serving, soaking
from canary_pipeline_tests.test_stopping import WAYS, alive, in_phase

pytestmark = pytest.mark.slow

THREE_PERCENT = {
    "OA_RUNTIME_CANARY_USER_PERCENT": "3",
    "OA_RUNTIME_CANARY_AUTOPILOT_PERCENT": "3",
}

NewLive = Callable[..., LiveStaging]


@pytest.fixture
def new_live(commands: Commands, staging: FakeStaging, checkout: Checkout) -> NewLive:
    return partial(let_change, commands, staging, checkout)


@pytest.fixture
def live(new_live: NewLive) -> LiveStaging:
    return new_live()


def only_folder(commands: Commands) -> Path:
    [folder] = commands.folders
    return folder


def live_percents(row: dict[str, Any], key: str = "live") -> tuple[int, int, bool]:
    seen = row[key]
    return seen["user_percent"], seen["autopilot_percent"], seen["shadow_enabled"]


def blocks(result: Result, folder: Path) -> str:
    """The summary of a rollout that has blocked."""
    assert result.code == 1, result.out + result.err
    assert decision(folder) == "Decision: block"
    return (folder / "SUMMARY.md").read_text()


def restored(live: LiveStaging, folder: Path, percent: int = 0) -> None:
    """A rollout has rolled back, and says so wherever it says anything."""
    assert live.percent == percent
    row = rollback_rows(folder)[-1]
    assert row["status"] == "passed"
    assert row["live"]["user_percent"] == row["wanted"]["user_percent"] == percent
    assert f"Restored: users {percent} %" in section(folder, "Rollback")
    assert "| rollback | passed |" in section(folder, "Execution Table")


def test_staging_climbs_with_the_cohorts_and_stays_where_an_allowed_rollout_leaves_it(
    live: LiveStaging, commands: Commands
) -> None:
    result = commands.rollout("--cohorts", "5,25,100", "--cohort-soak-seconds", "1")

    assert result.code == 0, result.out + result.err
    folder = only_folder(commands)
    assert decision(folder) == "Decision: allow"
    found = cohort_rows(folder)
    assert [live_percents(row) for row in found] == [
        (5, 5, True), (25, 25, True), (100, 100, True),
    ]  # fmt: skip
    assert [row["live_after_soak"]["user_percent"] for row in found] == [5, 25, 100]
    assert [row["driver"] for row in found] == [
        "control_service", "control_service", "runtime_service",
    ]  # fmt: skip
    moments = [f"{side}_{percent}" for percent in (5, 25, 100) for side in ("before", "after")]
    seen = [
        json.loads((folder / f"control_status_{moment}.json").read_text()) for moment in moments
    ]
    climbing = [one["data"]["runtimeRouting"]["canary_user_percent"] for one in seen]
    assert climbing == [0, 5, 5, 25, 25, 100]
    assert live.percent == 100
    for percent in (5, 25, 100):
        lines = (folder / f"env/cohort-{percent}.env").read_text().splitlines()
        assert {line.partition("=")[0] for line in lines} == VARIABLES
        assert f"OA_RUNTIME_CANARY_USER_PERCENT={percent}" in lines
        assert "applying" in (folder / f"logs/apply-{percent}.log").read_text()
    assert rollback_rows(folder) == []
    assert "## Rollback" not in (folder / "SUMMARY.md").read_text()
    assert "| cohort 25 % | passed |" in section(folder, "Execution Table")

    first = commands.rollback(folder)

    assert first.code == 0, first.out + first.err
    assert "rollback: back to users 0 %" in first.out
    restored(live, folder)
    assert decision(folder) == "Decision: block"
    assert "cohort 100 % passed, but staging was rolled back since" in section(folder, "Why")

    second = commands.rollback(folder)

    assert second.code == 0
    assert "nothing to roll back" in second.out
    assert len(rollback_rows(folder)) == 1

    third = live.resume(folder)

    assert third.code == 0, third.out + third.err
    assert decision(folder) == "Decision: allow"
    assert live.percent == 100
    assert [row["cohort_percent"] for row in cohort_rows(folder)] == [5, 25, 100] * 2


@pytest.mark.parametrize(
    ("fault", "failed", "reason"),
    [
        ("apply-does-nothing", 5, "percent_not_live"),
        ("apply-fails", 25, "apply_failed"),
        ("drift", 25, "percent_drifted"),
        ("error-at-25", 25, "http_status"),
    ],
)
def test_whatever_blocks_staging_is_rolled_back_to_what_was_live_before(
    fault: str, failed: int, reason: str, new_live: NewLive, commands: Commands
) -> None:
    live = new_live(fault, **THREE_PERCENT)

    result = commands.rollout(
        "--cohorts", "5,25,100", "--cohort-soak-seconds", "2", more={TIMEOUT_VARIABLE: "3"}
    )

    folder = only_folder(commands)
    blocks(result, folder)
    assert [(percent, why) for percent, _, why in statuses(folder)][-2 if failed == 25 else 0] == (
        failed, reason,
    )  # fmt: skip
    row = next(row for row in cohort_rows(folder) if row["status"] == "failed")
    assert (row.get("probed_at") is None) == (reason in ("apply_failed", "percent_not_live"))
    if reason in ("percent_not_live", "percent_drifted"):
        assert "users 3 %" in row["error"] or "users 0 %" in row["error"]
    if fault == "drift":  # somebody has set less than was live before: that is theirs
        row = rollback_rows(folder)[-1]
        assert (row["status"], row["reason"], live.percent) == ("skipped", "not_raised", 0)
    else:
        restored(live, folder, 3)
        assert "rollback: Restored: users 3 %" in result.out


def test_an_apply_that_lands_late_is_waited_for(new_live: NewLive, commands: Commands) -> None:
    live = new_live("apply-lands-late")

    result = commands.rollout("--cohorts", "5,100")

    assert result.code == 0, result.out + result.err
    assert live.percent == 100
    [first, last] = cohort_rows(only_folder(commands))
    assert first["live"]["user_percent"] == 5
    assert last["live"]["user_percent"] == 100
    assert first["duration_seconds"] > first["apply_seconds"] + 2


def test_a_shadow_that_is_off_fails_its_cohort(
    live: LiveStaging, commands: Commands, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.env"
    wrong = (
        f"sed s/SHADOW_ENABLED=true/SHADOW_ENABLED=false/ $OA_STAGING_CANARY_ENV_FILE > '{file}'; "
        f"OA_RUNTIME_SHADOW_ENABLED=false OA_STAGING_CANARY_ENV_FILE='{file}' {APPLY}"
    )

    result = commands.rollout(
        "--cohorts", "5,100", more={APPLY_VARIABLE: wrong, TIMEOUT_VARIABLE: "3"}
    )

    folder = only_folder(commands)
    assert "shadow_not_live: live is users 5 %, autopilots 5 %, shadow off" in blocks(
        result, folder
    )
    assert statuses(folder)[0] == (5, "failed", "shadow_not_live")
    restored(live, folder)


def test_without_a_readable_routing_status_nothing_is_applied(
    live: LiveStaging, commands: Commands, tmp_path: Path
) -> None:
    more = {
        APPLY_VARIABLE: f"touch '{tmp_path}/applied'",
        "OA_STAGING_CONTROL_BASE_URL": "http://127.0.0.1:9",
        "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": "1",
    }

    result = commands.rollout("--cohorts", "5,100", more=more)

    folder = only_folder(commands)
    summary = blocks(result, folder)
    assert "apply_failed: nothing was applied: what is live could not be read" in summary
    assert "## Rollback\n\nNothing was applied." in summary
    assert not (tmp_path / "applied").exists()
    assert rollback_rows(folder) == []
    assert live.percent == 0


def test_a_staging_that_cannot_be_asked_any_more_is_said_loudly_and_restored_by_hand(
    live: LiveStaging, commands: Commands
) -> None:
    lost = f"{APPLY} && mv '{live.token_file}' '{live.token_file}.lost'"

    result = commands.rollout("--cohorts", "5", more={APPLY_VARIABLE: lost, TIMEOUT_VARIABLE: "1"})

    folder = only_folder(commands)
    blocks(result, folder)
    [(percent, status, reason)] = statuses(folder)
    assert (percent, status, reason) == (5, "failed", "percent_not_live")
    [row] = rollback_rows(folder)
    assert (row["status"], row["reason"]) == ("failed", "rollback_failed")
    assert "THE ROLLBACK FAILED" in section(folder, "Rollback")
    assert "THE ROLLBACK FAILED" in result.out
    Path(f"{live.token_file}.lost").rename(live.token_file)
    assert live.percent == 5


FAILING = ["exit 3", "true"]


@pytest.mark.parametrize("rollback", FAILING)
def test_a_rollback_that_fails_is_said_loudest_and_its_commands_work_by_hand(
    rollback: str, new_live: NewLive, commands: Commands, checkout: Checkout
) -> None:
    live = new_live("error-at-25")
    mended = f"if [ -f mended ]; then {APPLY}; else {rollback}; fi"
    more = {ROLLBACK_VARIABLE: mended, TIMEOUT_VARIABLE: "3"}

    result = commands.rollout("--cohorts", "5,25,100", more=more)

    folder = only_folder(commands)
    blocks(result, folder)
    assert live.percent == 25
    [row] = rollback_rows(folder)
    assert row["status"] == "failed"
    assert row["reason"] == ("rollback_failed" if rollback == "exit 3" else "percent_not_live")
    told = section(folder, "Rollback")
    assert "**THE ROLLBACK FAILED**" in told
    assert "left at 25 %" in told
    assert "ROLLBACK FAILED, staging is not as it was" in section(folder, "Why")
    assert "**THE ROLLBACK FAILED**" in result.out
    by_hand = commands_by_hand(told)
    assert by_hand in result.out

    again = commands.rollback(folder)
    assert again.code == 1
    assert by_hand in again.out

    (checkout.folder / "mended").touch()
    ours, _, others = by_hand.partition("\n")
    bare = others.splitlines()
    assert len(bare) == 4
    for line in (bare[1], bare[3]):  # the rollback command, the apply command
        done = live.bash(line)
        assert done.returncode == 0, done.stdout + done.stderr
        await_true(lambda: live.percent == 0)
    done = live.bash(ours)
    assert done.returncode == 0, done.stdout + done.stderr
    restored(live, folder)
    assert decision(folder) == "Decision: block"


def test_a_rollout_whose_rollback_failed_goes_on_and_is_allowed_only_with_what_is_live(
    new_live: NewLive, commands: Commands, checkout: Checkout
) -> None:
    """A rollback that failed must neither stand in the way for ever nor undo what was allowed."""
    live = new_live()
    broken = f"[ -f mended ] && {APPLY}"
    result = commands.rollout(
        "--cohorts", "5,100", more={APPLY_VARIABLE: broken, ROLLBACK_VARIABLE: "exit 3"}
    )
    folder = only_folder(commands)
    blocks(result, folder)
    assert [row["status"] for row in rollback_rows(folder)] == ["failed"]
    (checkout.folder / "mended").touch()

    resumed = live.resume(folder, {APPLY_VARIABLE: broken})

    assert resumed.code == 0, resumed.out + resumed.err
    assert live.percent == 100
    assert len(rollback_rows(folder)) == 1


def test_on_hold_the_cohort_stays_live_and_the_summary_says_so(
    new_live: NewLive, commands: Commands
) -> None:
    live = new_live("error-at-25")

    result = commands.rollout("--cohorts", "5,25,100", more={ON_BLOCK_VARIABLE: "hold"})

    folder = only_folder(commands)
    blocks(result, folder)
    assert live.percent == 25
    assert "Held on purpose: cohort 25 % stays live" in section(folder, "Rollback")
    assert "Held on purpose" in result.out
    [row] = rollback_rows(folder)
    assert (row["status"], row["reason"]) == ("skipped", "held")
    told = commands.status()
    assert told.code == 1
    assert "left staging at 25 % (held on purpose)" in told.out


def test_a_gate_that_fails_leaves_staging_alone(
    live: LiveStaging, commands: Commands, checkout: Checkout
) -> None:
    checkout.gate("sync-security", "exit 1")

    result = commands.rollout("--cohorts", "5,100", more={APPLY_VARIABLE: f"touch x; {APPLY}"})

    folder = only_folder(commands)
    assert "Nothing was applied." in blocks(result, folder)
    assert not (checkout.folder / "x").exists()
    assert rollback_rows(folder) == []
    assert live.percent == 0


def test_a_dry_run_applies_nothing(
    live: LiveStaging, commands: Commands, checkout: Checkout
) -> None:
    result = commands.rollout(
        "--cohorts", "5", "--skip-gates", more={APPLY_VARIABLE: f"touch x; {APPLY}"}
    )

    folder = only_folder(commands)
    blocks(result, folder)
    assert statuses(folder) == [(5, "passed", None)]
    assert not (checkout.folder / "x").exists()
    assert not (folder / "env").exists()
    assert live.percent == 0


def start(commands: Commands, way: str, phase: str, tmp_path: Path, **more: str) -> Any:
    """Start a rollout and wait until its cohort is in a phase, with staging changed."""
    slow = {
        "apply": {
            APPLY_VARIABLE: f"[ -f rolling ] || {{ {APPLY}; sleep 300 & sleep 300; }}; {APPLY}"
        },
        "verify": {APPLY_VARIABLE: f"{APPLY}; :", TIMEOUT_VARIABLE: "120"},
        "soak": {"OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "300"},
    }[phase]
    if phase == "apply":
        slow[ROLLBACK_VARIABLE] = APPLY
        slow["OA_STAGING_CANARY_STOP_GRACE_SECONDS"] = "1"
    process = commands.start(
        *WAYS[way], more={"OA_STAGING_CANARY_COHORTS": "5", "MARKER": str(tmp_path), **slow, **more}
    )
    await_true(lambda: in_phase(commands, phase))
    return process


WITH_DAGSTER = {("canary-rollout", "apply", "SIGINT"), ("dagster", "soak", "SIGTERM")}
"""The core is told by signals alike; Dagster's ways to hear of them are two."""

SIGNALLED = [
    pytest.param(way, phase, number, id=f"{way}-{phase}-{number.name}")
    for way in WAYS
    for phase in ("apply", "verify", "soak")
    for number in (signal.SIGINT, signal.SIGTERM)
    if way == "core" or (way, phase, number.name) in WITH_DAGSTER
]


@pytest.mark.parametrize(("way", "phase", "number"), SIGNALLED)
def test_a_signal_blocks_at_once_and_then_staging_is_restored(  # noqa: PLR0917
    way: str,
    phase: str,
    number: signal.Signals,
    new_live: NewLive,
    commands: Commands,
    tmp_path: Path,
) -> None:
    live = new_live("apply-lands-late" if phase == "verify" else "")
    told = f"[ -f '{tmp_path}/told' ] || until [ -f '{tmp_path}/told' ]; do sleep 0.1; done"
    process = start(commands, way, phase, tmp_path, **{ROLLBACK_VARIABLE: f"{told}; {APPLY}"})
    if phase != "verify":
        await_true(lambda: live.percent == 5)
    folder = only_folder(commands)

    process.send_signal(number)
    await_true((folder / "SUMMARY.md").exists)
    assert decision(folder) == "Decision: block"
    assert rollback_rows(folder) == []
    assert "5 % was applied last and has not been rolled back" in section(folder, "Rollback")
    (tmp_path / "told").touch()
    result = commands.finish(process)

    assert result.code == (1 if way == "dagster" else 3), result.out + result.err
    assert f"attempt 1 aborted: stopped by {number.name}" in section(folder, "Why")
    assert phase in section(folder, "Why")
    restored(live, folder)
    assert alive(f"MARKER={tmp_path}") == []


@pytest.mark.parametrize("way", ["core", "dagster"])
def test_a_second_signal_ends_the_rollback_at_once_and_is_said_loudly(
    way: str, live: LiveStaging, commands: Commands, tmp_path: Path
) -> None:
    endless = f"touch '{tmp_path}/rolling'; sleep 300; {APPLY}"
    process = start(commands, way, "soak", tmp_path, **{ROLLBACK_VARIABLE: endless})
    folder = only_folder(commands)
    process.send_signal(signal.SIGINT)
    await_true((tmp_path / "rolling").exists)

    process.send_signal(signal.SIGINT)
    result = commands.finish(process)

    assert result.code == (1 if way == "dagster" else 3)
    assert live.percent == 5
    [row] = rollback_rows(folder)
    assert (row["status"], row["reason"]) == ("failed", "rollback_stopped")
    assert "THE ROLLBACK FAILED** (rollback_stopped" in section(folder, "Rollback")
    assert way == "dagster" or "THE ROLLBACK FAILED" in result.out
    assert alive(f"MARKER={tmp_path}") == []


def test_a_second_signal_of_another_kind_is_the_same_request(
    live: LiveStaging, commands: Commands, tmp_path: Path
) -> None:
    """A CI that cancels sends SIGINT, and SIGTERM some seconds later."""
    told = f"touch '{tmp_path}/rolling'; until [ -f '{tmp_path}/told' ]; do sleep 0.1; done"
    process = start(commands, "core", "soak", tmp_path, **{ROLLBACK_VARIABLE: f"{told}; {APPLY}"})
    process.send_signal(signal.SIGINT)
    await_true((tmp_path / "rolling").exists)

    process.send_signal(signal.SIGTERM)
    (tmp_path / "told").touch()
    result = commands.finish(process)

    assert result.code == 3
    restored(live, only_folder(commands))


def test_a_signal_during_the_rollback_of_a_block_does_not_keep_staging_from_being_restored(
    new_live: NewLive, commands: Commands, tmp_path: Path
) -> None:
    live = new_live("error-at-25")
    once = f"[ -f '{tmp_path}/rolling' ] || {{ touch '{tmp_path}/rolling'; sleep 300; }}; {APPLY}"
    process = commands.start_rollout("--cohorts", "5,25", more={ROLLBACK_VARIABLE: once})
    await_true((tmp_path / "rolling").exists)

    process.send_signal(signal.SIGTERM)
    result = commands.finish(process)

    assert result.code == 3
    folder = only_folder(commands)
    assert [row["reason"] for row in rollback_rows(folder) if "reason" in row] == [
        "rollback_stopped"
    ]
    restored(live, folder)


@pytest.mark.parametrize("phase", ["apply", "soak"])
def test_a_kill_rolls_nothing_back_and_status_tells(
    phase: str, live: LiveStaging, commands: Commands, tmp_path: Path
) -> None:
    process = start(commands, "core", phase, tmp_path)
    await_true(lambda: live.percent == 5)
    quiet = commands.status()
    assert quiet.code == 0, quiet.out
    assert "a rollout is under way" in quiet.out

    commands.kill(process)

    await_true(lambda: alive(f"MARKER={tmp_path}") == [])
    folder = only_folder(commands)
    assert live.percent == 5
    assert rollback_rows(folder) == []
    told = commands.status()
    assert told.code == 1, told.out + told.err
    assert "live: users 5 %" in told.out
    assert f"{folder.name} has left staging at 5 % (it was killed)" in told.out
    by_hand = told.out.partition("to restore what was:\n")[2]
    done = live.bash(by_hand.splitlines()[0])
    assert done.returncode == 0, done.stdout + done.stderr
    restored(live, folder)
    assert "attempt 1 aborted: killed, and rolled back by hand" in section(folder, "Why")
    told = commands.status()
    assert told.code == 0, told.out
    assert "ATTENTION" not in told.out


@pytest.mark.parametrize("rolled_back", ["no", "by us", "by bash"])
def test_an_interrupted_soak_goes_on_only_where_its_cohort_is_still_live(
    rolled_back: str, live: LiveStaging, commands: Commands, tmp_path: Path
) -> None:
    soak = {"OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "8"}
    process = start(commands, "core", "soak", tmp_path, **soak)
    commands.kill(process)
    folder = only_folder(commands)
    if rolled_back == "by us":
        assert commands.rollback(folder).code == 0
    if rolled_back == "by bash":
        told = commands.status().out
        assert live.bash(told.splitlines()[-1]).returncode == 0
    assert live.percent == (5 if rolled_back == "no" else 0)

    result = live.resume(folder)

    assert result.code == 0, result.out + result.err
    assert live.percent == 5
    [row] = cohort_rows(folder)
    assert row["attempt"] == 2
    assert (folder / "logs/apply-5.2.log").exists() == (rolled_back != "no")


@pytest.mark.parametrize("by", ["us", "bash"])
def test_a_rollout_killed_after_its_last_row_is_not_allowed_once_staging_was_rolled_back(
    by: str, live: LiveStaging, commands: Commands, tmp_path: Path
) -> None:
    """What was seen live is not live any more, so it has to be made and seen once more."""
    process = commands.start_rollout("--cohorts", "5", more={"MARKER": str(tmp_path)})
    await_true(lambda: commands.folders and cohort_rows(commands.folders[0]), every=0.001)
    commands.kill(process)
    folder = only_folder(commands)
    assert not (folder / "SUMMARY.md").exists()
    told = commands.status()
    assert told.code == 1
    line = told.out.partition("to restore what was:\n")[2].splitlines()[0 if by == "us" else 2]
    assert live.bash(line).returncode == 0
    await_true(lambda: live.percent == 0)
    if by == "us":
        assert decision(folder) == "Decision: block"

    result = live.resume(folder)

    assert result.code == 0, result.out + result.err
    assert [row["attempt"] for row in cohort_rows(folder)] == [1, 2]
    assert live.percent == 5
    assert decision(folder) == "Decision: allow"


@pytest.mark.parametrize("more", [{APPLY_VARIABLE: "true"}], ids=["another apply command"])
def test_a_rollout_does_not_go_on_with_another_way_to_change_staging(
    more: dict[str, str], new_live: NewLive, commands: Commands
) -> None:
    live = new_live("error-at-25")
    assert commands.rollout("--cohorts", "5,25").code == 1
    folder = only_folder(commands)

    result = live.resume(folder, more)

    assert result.code == 2, result.out
    [line] = result.err.splitlines()
    assert "apply command" in line
    assert len(cohort_rows(folder)) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"OA_STAGING_CONTROL_BASE_URL": ""}, "accepted: both"),
        ({TOKEN_FILE_VARIABLE: ""}, "accepted: both"),
        (
            {"OA_STAGING_CONTROL_BASE_URL": "", TOKEN_FILE_VARIABLE: ""},
            "control_base_url and auth_token are missing",
        ),
        ({ON_BLOCK_VARIABLE: "later"}, "accepted: rollback or hold"),
        ({TIMEOUT_VARIABLE: "0"}, "accepted: a whole number of seconds from 1"),
        ({TIMEOUT_VARIABLE: "soon"}, "accepted: a whole number of seconds from 1"),
        ({APPLY_VARIABLE: " "}, "accepted: a shell command"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    more: dict[str, str], words: str, live: LiveStaging, commands: Commands
) -> None:
    result = commands.rollout(more=more)

    assert result.code == 2
    [line] = result.err.splitlines()
    assert words in line
    assert not (commands.folder / "output").exists()
    assert live.percent == 0


@pytest.mark.parametrize("variable", [APPLY_VARIABLE, ROLLBACK_VARIABLE])
def test_a_command_that_holds_the_token_is_refused_and_not_shown(
    variable: str, live: LiveStaging, commands: Commands
) -> None:
    token = live.token_file.read_text()

    result = commands.rollout(more={variable: f"curl -H 'Authorization: Bearer {token}' x"})

    assert result.code == 2
    [line] = result.err.splitlines()
    assert "holds the auth token (not shown)" in line
    assert token not in result.out + result.err
    assert not (commands.folder / "output").exists()


def test_a_token_that_the_commands_print_is_in_no_file(
    new_live: NewLive, commands: Commands, tmp_path: Path
) -> None:
    live = new_live("error-at-25")
    tokens = {live.token_file.read_text()}
    leak = f'cat "${TOKEN_FILE_VARIABLE}"; {APPLY}; cat "${TOKEN_FILE_VARIABLE}"'

    result = commands.rollout("--cohorts", "5,25", more={APPLY_VARIABLE: leak})

    folder = only_folder(commands)
    blocks(result, folder)
    tokens.add(live.token_file.read_text())
    for token in tokens:
        assert files_with(token, folder, tmp_path / "dagster") == []
        assert token not in result.out + result.err
    for name in ("apply-5", "apply-25", "rollback-1"):
        assert "[redacted]" in (folder / f"logs/{name}.log").read_text()


def test_without_an_apply_command_a_rollout_only_asks(
    live: LiveStaging, commands: Commands
) -> None:
    result = commands.rollout("--cohorts", "5,100", more={APPLY_VARIABLE: ""})

    assert result.code == 0, result.out + result.err
    folder = only_folder(commands)
    assert live.percent == 0
    assert not (folder / "env").exists()
    assert not (folder / "rollback-results.jsonl").exists()
    assert sorted(file.name for file in (folder / "logs").iterdir()) == [
        "gate-spacetime-chaos.log",
        "gate-spacetime-provision-staging.log",
        "gate-spacetime-replay-resume.log",
        "gate-sync-security.log",
    ]
    told = ("apply", "live", "rollback")
    assert not [key for row in cohort_rows(folder) for key in row if key.startswith(told)]
    summary = (folder / "SUMMARY.md").read_text().lower()
    assert not [word for word in ("rollback", "live:") if word in summary]


def test_terminate_in_the_ui_rolls_back_too(live: LiveStaging, commands: Commands) -> None:
    with serving(commands) as dev:
        run = dev.launch(cohorts=[5], cohort_soak_seconds=300)
        folder = await_true(lambda: soaking(commands))
        assert live.percent == 5

        dev.ask(TERMINATE, run=run)
        await_true((folder / "SUMMARY.md").exists)
        assert decision(folder) == "Decision: block"
        assert dev.end_of(run) == "CANCELED"

    restored(live, folder)
    assert "aborted: terminated through Dagster, at cohort 5 (soak)" in section(folder, "Why")


def test_a_job_in_one_process_rolls_back_too(new_live: NewLive, in_process: InProcess) -> None:
    live = new_live("error-at-25")

    assert not in_process.job(OA_STAGING_CANARY_COHORTS="5,25")

    restored(live, only_folder(in_process.commands))
