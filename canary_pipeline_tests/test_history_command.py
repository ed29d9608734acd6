"""`canary-rollout history`: what a person and a tool are told of past rollouts."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline_tests.builders import add, gate, passed
from canary_pipeline_tests.conftest import PROGRAMS, Result
from canary_pipeline_tests.rollout.conftest import FakeClock, new_rollout, settings_with

ROOT = Path("output/canary/spacetime")


def history(folder: Path, *arguments: str) -> Result:
    done = subprocess.run(
        [PROGRAMS / "canary-rollout", "history", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def a_rollout(root: Path, hour: int, detail: str | None = None) -> Path:
    """A rollout of 15 minutes that is allowed, or blocked by a gate that says this."""
    clock = FakeClock(datetime(2026, 2, 25, hour, 0, tzinfo=UTC))
    settings = settings_with(Path("/"), CANARY_COHORT_SOAK_SECONDS="450")
    evidence = new_rollout(settings, root / f"staging-{hour}", clock)
    attempts.join(evidence, "run-1", "a test", clock)
    control = ControlService(settings.endpoints, settings.token, 2)
    context = Context(settings.plan, evidence, control, 1, "run-1", clock=clock)
    rows = passed(settings.plan)
    add(evidence, *([rows[0], gate("two", "failed", detail=detail)] if detail else rows))
    clock.sleep(900)
    conclude(context, "finished")
    return evidence.folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / ROOT
    a_rollout(found, 8)
    a_rollout(found, 9, "exit code 1")
    return found


@pytest.mark.usefixtures("root")
def test_rollouts_are_told_in_aligned_lines_newest_first(tmp_path: Path) -> None:
    result = history(tmp_path)

    assert (result.code, result.err) == (0, "")
    heading, blocked, allowed = result.out.splitlines()
    why = "gate two failed: exit code 1; cohort 5 % has no result; and 1 more"
    told = [re.split("  +", line) for line in (heading, blocked, allowed)]
    ages = [line.pop(3) for line in told]
    assert [age.rpartition(" ")[2] for age in ages] == ["age", "d", "d"]
    assert told == [
        [
            "started (UTC)", "decision", "verifies", "commit", "duration", "reached",
            "what blocked or was left out", "folder",
        ],
        ["2026-02-25 09:00:00", "block", "yes", "-", "15:00", "-", why, f"{ROOT}/staging-9"],
        ["2026-02-25 08:00:00", "allow", "yes", "-", "15:00", "100 %", "-", f"{ROOT}/staging-8"],
    ]  # fmt: skip
    assert heading.index("folder") == blocked.index(str(ROOT)) == allowed.index(str(ROOT))


@pytest.mark.usefixtures("root")
def test_a_limit_says_that_there_are_more(tmp_path: Path) -> None:
    result = history(tmp_path, "--limit", "1")

    assert result.code == 0
    assert "staging-9" in result.out
    assert "staging-8" not in result.out
    assert result.err == "older ones are left out; --limit shows more than 1\n"


def test_a_tool_is_told_an_object_a_line(root: Path, tmp_path: Path) -> None:
    result = history(tmp_path, str(root), "--json")

    newest, oldest = map(json.loads, result.out.splitlines())
    assert oldest == {
        "folder": str(root / "staging-8"),
        "problem": None,
        "environment": "staging",
        "started_at": "2026-02-25T08:00:00.000Z",
        "ended_at": "2026-02-25T08:15:00.000Z",
        "duration_seconds": 900.0,
        "decision": "allow",
        "verifies": True,
        "decided_at": "2026-02-25T08:15:00.000Z",
        "commit": None,
        "what_blocked": "",
        "remarks": [],
        "attempts": 1,
        "outcome": "finished",
        "gate_seconds": {"one": 0.0, "two": 0.0},
        "probe_failures": 0,
        "cohorts": [5, 100],
        "highest_passed": 100,
        "launched_by": "a test",
    }
    assert newest["decision"] == "block"


@pytest.mark.parametrize("make", [True, False])
def test_no_rollouts_are_said_and_are_no_error(tmp_path: Path, make: bool) -> None:  # noqa: FBT001
    if make:
        (tmp_path / ROOT).mkdir(parents=True)

    assert history(tmp_path) == Result(0, f"no rollouts in {ROOT}\n", "")
    assert history(tmp_path, "--json") == Result(0, "", f"no rollouts in {ROOT}\n")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere cannot be listed: No such file or directory"),
        (["a file"], "a file cannot be listed: Not a directory"),
        ([""], "ROOT is empty: accepted is a folder"),
        (["no\nwhere"], "no\\nwhere cannot be listed: No such file or directory"),
        (
            ["--picture", "SUMMARY.md"],
            "--picture is 'SUMMARY.md': accepted is a file name that ends in .png",
        ),
        (
            ["--picture", "nowhere/trend.png"],
            "--picture nowhere/trend.png cannot be written: No such file or directory",
        ),
    ],
)
def test_bad_input_is_answered_in_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "a file").write_text("")

    result = history(tmp_path, *arguments)

    assert (result.code, result.err) == (2, f"canary-rollout: {message}\n")


def test_folders_that_cannot_be_read_are_listed_among_the_others(
    root: Path, tmp_path: Path
) -> None:
    (root / "broken").mkdir()
    (root / "broken" / "rollout.json").write_text("{")

    result = history(tmp_path)

    assert (result.code, result.err) == (0, "")
    [line] = [line for line in result.out.splitlines() if line.endswith("/broken")]
    assert "unreadable" in line
    assert "rollout.json cannot be read" in line


@pytest.mark.usefixtures("root")
def test_a_picture_is_drawn(tmp_path: Path) -> None:
    result = history(tmp_path, "--picture", "trend.png")

    assert (result.code, result.err) == (0, "")
    assert (tmp_path / "trend.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.usefixtures("root")
def test_a_listing_imports_neither_dagster_nor_what_draws(tmp_path: Path) -> None:
    program = (
        "import sys; from canary_pipeline.commands.history import tell; "
        "tell(None, 20, None, as_json=False);"
        "sys.exit(bool({'dagster', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )

    assert (
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0
    )


def test_a_terminal_shows_a_table_that_nobody_can_write_into(tmp_path: Path) -> None:
    a_rollout(tmp_path / ROOT, 8, "[bold]\x1b[5mblink\x07 [/nothing] \u202e")
    hostile = a_rollout(tmp_path / ROOT, 9)
    hostile.rename(hostile.with_name("\x1b[5m\x07\n"))

    done = subprocess.run(
        [PROGRAMS / "python", "-c", _IN_A_TERMINAL, PROGRAMS / "canary-rollout", "history"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )

    shown = done.stdout.decode()
    assert done.returncode == 0
    assert "\x1b[32mallow" in shown
    assert r"[bold]\x1b[5mblink\x07" in shown
    assert "[/nothing]" in shown
    assert not [text for text in ("\x1b[5m", "\x07", "\u202e") if text in shown]


_IN_A_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="xterm-256color", COLUMNS="300")
    os.execv(sys.argv[1], sys.argv[1:])
try:
    while data := os.read(terminal, 1024):
        os.write(1, data)
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
