"""What a person sees of a rollout while it runs."""

import re
from pathlib import Path
from threading import Event

import pytest

from canary_pipeline.reports.progress import PlainLines, StepProgress, clock_face, fitting
from canary_pipeline_tests.conftest import CORE, PROGRAMS, Commands, await_true
from canary_pipeline_tests.fake_staging import GOOD, FakeStaging, answer

ODD = "[/x]\nDecision: block\x1b[2J"
"""What staging may answer: markup, another line, an escape."""


@pytest.mark.parametrize(
    ("seconds", "face"), [(0, "0:00"), (59.6, "1:00"), (900, "15:00"), (3661, "1:01:01")]
)
def test_a_clock_face(seconds: float, face: str) -> None:
    assert clock_face(seconds) == face


def test_plain_output_says_what_changed_and_reminds_of_a_soak() -> None:
    said: list[str] = []
    lines = PlainLines(said.append)

    for left in (180, 179, 121, 119, 60, 59):
        lines.show([StepProgress("cohort 5", "soaking", f"{left} left", left)])
    lines.show([StepProgress("cohort 5", "passed")])
    lines.show([StepProgress("cohort 5", "waiting")])

    assert said == [
        "cohort 5: soaking, 180 left",
        "cohort 5: soaking, 119 left",
        "cohort 5: soaking, 59 left",
        "cohort 5: passed",
    ]


@pytest.mark.parametrize(
    ("moving", "lines", "first"),
    [(0, 7, 0), (3, 7, 0), (6, 7, 0), (7, 7, 1), (8, 7, 2), (8, 3, 6), (4, 30, 0), (None, 7, 0)],
)
def test_a_low_terminal_shows_what_moves(moving: int | None, lines: int, first: int) -> None:
    """Gates pass first: a table that is cut off at its end would never show a soak."""
    there = -1 if moving is None else moving
    statuses = ["passed"] * there + ["soaking"] * (there >= 0) + ["waiting"] * (8 - there)
    now = [StepProgress(f"step {place}", status) for place, status in enumerate(statuses)]

    shown = fitting(now, lines)

    assert shown == now[first : first + lines]
    assert moving is None or now[moving] in shown


@pytest.mark.parametrize(
    ("size", "words"),
    [("rows 8 cols 80", r"cohort 100 .*probing"), ("cols 1", "cohort 100: probing")],
)
def test_a_small_terminal_shows_the_last_cohort(
    size: str, words: str, commands: Commands, staging: FakeStaging, tmp_path: Path
) -> None:
    record, seen = tmp_path / "typescript", Event()
    core = " ".join(CORE)

    def wait(handler: object) -> None:
        seen.wait(100)
        answer(200, GOOD)(handler)  # type: ignore[arg-type]

    staging.probes[100] = wait
    staging.probes[50] = answer(200, {"data": {"driver": ODD, "reason": ODD}})
    command = f"unset COLUMNS LINES; stty {size}; {PROGRAMS}/{core} run --cohorts 5,10,25,50,100"
    process = commands.start("python", "-c", _IN_A_TERMINAL, command, str(record))

    def shows_it() -> bool:
        ended = process.poll() is not None
        return ended or (record.exists() and bool(re.search(words, record.read_text())))

    await_true(shows_it)
    seen.set()

    assert commands.finish(process).code == 0, record.read_text()
    shown = record.read_text()
    assert "[/x]" in shown
    assert "\x1b[2J" not in shown
    assert [line for line in shown.splitlines() if line.startswith("Decision")] == [
        "Decision: allow"
    ]


def test_a_terminal_shows_a_table_that_moves(commands: Commands, tmp_path: Path) -> None:
    record = tmp_path / "typescript"
    command = f"{PROGRAMS}/canary-rollout run --cohorts 5 --cohort-soak-seconds 3"

    process = commands.start("python", "-c", _IN_A_TERMINAL, command, str(record))
    await_true(lambda: record.exists() and b"soaking" in record.read_bytes())
    result = commands.finish(process)

    assert result.code == 0
    shown = record.read_bytes().decode()
    assert "0:02 left" in shown
    assert "Decision: allow" in shown
    assert "\x1b[" in shown


_IN_A_TERMINAL = """
import os, pty, sys
with open(sys.argv[2], "wb", buffering=0) as file:
    def read(terminal):
        data = os.read(terminal, 1024)
        file.write(data)
        return data
    status = pty.spawn(["/bin/sh", "-c", sys.argv[1]], read)
sys.exit(os.waitstatus_to_exitcode(status))
"""
