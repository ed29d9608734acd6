"""What a person sees of a rollout while it runs."""

from pathlib import Path

import pytest

from canary_pipeline.reports.progress import PlainLines, StepProgress, clock_face
from canary_pipeline_tests.conftest import PROGRAMS, Commands, await_true


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

    assert said == [
        "cohort 5: soaking, 180 left",
        "cohort 5: soaking, 119 left",
        "cohort 5: soaking, 59 left",
        "cohort 5: passed",
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
