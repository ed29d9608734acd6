"""A gate is a real process: how it ends, what it prints, and that nothing of it stays."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from canary_pipeline.rollout.clock import SystemClock
from canary_pipeline.rollout.credentials import Redactor, TokenFile
from canary_pipeline.rollout.gates import run_gate
from canary_pipeline.rollout.plan import Gate, Plan
from canary_pipeline.rollout.records import GateRow
from canary_pipeline.rollout.surroundings import Surroundings
from canary_pipeline_tests.conftest import await_true


@pytest.fixture
def real(around: Surroundings) -> Surroundings:
    """Surroundings with the machine's own clock."""
    return replace(around, clock=SystemClock())


def log_of(row: GateRow, around: Surroundings) -> bytes:
    assert row.log_file
    return (around.evidence.folder / row.log_file).read_bytes()


def gone(pid_file: Path) -> bool:
    """Whether the process that wrote its id here has ended."""
    try:
        os.kill(int(pid_file.read_text()), 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("command", "status", "reason", "exit_code", "detail"),
    [
        ("true", "passed", None, 0, None),
        ("exit 3", "failed", "exit_code", 3, "exit code 3"),
        ("no-such-command", "failed", "exit_code", 127, "exit code 127"),
        ("kill -KILL $$", "failed", "signal", None, "killed by SIGKILL"),
        ("sleep 60", "failed", "timeout", None, "stopped after 1 s"),
        ("echo 'a \"quoted\" name' && false", "failed", "exit_code", 1, "exit code 1"),
    ],
)
def test_how_a_gate_ends(  # noqa: PLR0917 - a table's columns
    command: str,
    status: str,
    reason: str | None,
    exit_code: int | None,
    detail: str | None,
    plan: Plan,
    real: Surroundings,
) -> None:
    row = run_gate(Gate("one", command), replace(plan, gate_timeout_seconds=1), real)

    assert (row.status, row.reason, row.exit_code) == (status, reason, exit_code)
    assert (row.detail or None) == detail
    assert real.evidence.record().gate_rows == (row,)


def test_a_checkout_that_vanished_is_a_failed_row(plan: Plan, real: Surroundings) -> None:
    row = run_gate(Gate("one", "true"), replace(plan, repo_root=Path("/no/such/folder")), real)

    assert (row.status, row.reason, row.exit_code) == ("failed", "cannot_start", None)
    assert b"/no/such/folder" in log_of(row, real)


def test_a_gate_that_ignores_signals_is_killed_with_its_children(
    plan: Plan, real: Surroundings, tmp_path: Path
) -> None:
    stubborn = f"(trap '' INT TERM; echo $BASHPID > {tmp_path}/pid; sleep 60)"
    command = f"trap '' INT TERM; {stubborn} & wait; sleep 60"
    row = run_gate(Gate("one", command), replace(plan, gate_timeout_seconds=1), real)

    assert row.reason == "timeout"
    assert gone(tmp_path / "pid")


def test_a_child_that_a_gate_leaves_behind_is_ended(
    plan: Plan, real: Surroundings, tmp_path: Path
) -> None:
    row = run_gate(Gate("one", f"sleep 60 & echo $! > {tmp_path}/pid"), plan, real)

    assert row.status == "passed"
    assert gone(tmp_path / "pid")


def test_a_daemon_that_holds_the_log_open_is_not_waited_for(
    plan: Plan, real: Surroundings, tmp_path: Path
) -> None:
    daemon = f"setsid bash -c 'echo $$ > {tmp_path}/pid; sleep 60'"
    command = f"{daemon} & until [ -s {tmp_path}/pid ]; do :; done"
    started = time.monotonic()

    row = run_gate(Gate("one", command), plan, real)

    assert row.status == "passed"
    assert time.monotonic() - started < 10
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_an_interrupt_stops_the_gate_and_is_passed_on(
    plan: Plan, real: Surroundings, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"

    def interrupt() -> None:
        if pid_file.exists() and pid_file.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_gate(
            Gate("one", f"echo $$ > {pid_file}; sleep 60"),
            plan,
            replace(real, check_owner=interrupt),
        )

    assert gone(pid_file)
    assert real.evidence.record().gate_rows == ()
    assert [state.step for state in real.evidence.all_in_flight()] == ["gate one"]


def test_a_gate_dies_with_the_process_that_runs_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from canary_pipeline.rollout import process\n"
        "from canary_pipeline.rollout.clock import SystemClock\n"
        "process.run(['bash', '-c', sys.argv[1]], Path('.'), os.environ, write=lambda data: None,"
        " timeout_seconds=60, clock=SystemClock())\n"
    )
    script = f"trap '' INT TERM; sleep 60 & echo $! > {pid_file}; wait"
    owner = subprocess.Popen([sys.executable, "-c", program, script])
    await_true(lambda: pid_file.exists() and pid_file.read_text())

    owner.kill()
    owner.wait()

    await_true(lambda: gone(pid_file))


def test_output_of_both_kinds_is_kept_in_order_whatever_it_is(
    plan: Plan, real: Surroundings
) -> None:
    row = run_gate(Gate("one", r"printf 'a\0'; printf 'b\377' >&2; printf 'c'"), plan, real)

    assert log_of(row, real) == b"a\0b\xffc"
    assert row.log_sha256 == real.evidence.sha256("logs/gate-one.log")


def test_a_flood_is_kept_whole(plan: Plan, real: Surroundings) -> None:
    row = run_gate(Gate("one", "head -c 20000000 /dev/zero"), plan, real)

    assert row.status == "passed"
    assert len(log_of(row, real)) == 20_000_000


@pytest.mark.parametrize(
    "command",
    [
        "echo before secret-token after",
        "printf 'before secret'; sleep 0.3; printf -- '-token after\\n'",
    ],
)
def test_a_token_never_reaches_the_log(command: str, plan: Plan, real: Surroundings) -> None:
    row = run_gate(Gate("one", command), plan, real)

    assert log_of(row, real) == b"before [redacted] after\n"


def test_a_token_that_is_renewed_while_the_gate_runs_never_reaches_the_log(
    plan: Plan, real: Surroundings, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first-token")
    command = (
        f"echo first-token; sleep 0.3; echo second-token > {file}; echo second-token first-token"
    )

    row = run_gate(Gate("one", command), plan, replace(real, redactor=Redactor(TokenFile(file))))

    assert log_of(row, real) == b"[redacted]\n[redacted] [redacted]\n"
