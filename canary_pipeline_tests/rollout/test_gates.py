"""A gate is a real process: how it ends, what it prints, and that nothing of it stays."""

import hashlib
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from canary_pipeline.model.plan import Gate, Plan
from canary_pipeline.model.rows import GateRow, InFlight
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.token import Redactor, TokenFile
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.gate import record_skipped_gates, run_gate
from canary_pipeline.rollout.logged_command import run_logged
from canary_pipeline_tests.conftest import await_true, gate_rows
from canary_pipeline_tests.rollout.conftest import FakeClock, children_of


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


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("echo fine", {"status": "passed", "exit_code": 0}),
        (
            "echo fine; exit 3",
            {"status": "failed", "reason": "exit_code", "detail": "exit code 3", "exit_code": 3},
        ),
    ],
)
def test_a_row_holds_what_the_contract_names(
    command: str, more: dict[str, object], plan: Plan, real: Surroundings
) -> None:
    run_gate(Gate("one", command), plan, replace(real, attempt=2, run_id="run-2"))

    [row] = gate_rows(real.evidence.folder)
    times = [row.pop("started_at"), row.pop("finished_at")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    assert times == sorted(times)
    assert 0 < row.pop("duration_seconds") < 10
    row.pop("chain", None)
    assert row == {
        "gate": "one",
        **more,
        "command": command,
        "log_file": "logs/gate-one.log",
        "log_sha256": hashlib.sha256(b"fine\n").hexdigest(),
        "attempt": 2,
        "run_id": "run-2",
    }


def test_a_duration_is_measured_by_the_clock_that_never_jumps(
    plan: Plan, around: Surroundings, clock: FakeClock
) -> None:
    def a_moment_passes() -> None:
        clock.seconds += 1.5 if clock.seconds == 0 else 0
        clock.wall = clock.wall.replace(year=2001)

    row = run_gate(
        Gate("one", "sleep 0.3"), plan, replace(around, check_owner=a_moment_passes, clock=clock)
    )

    assert row.duration_seconds == pytest.approx(1.5)


def test_a_skipped_run_of_the_gates_is_one_row(around: Surroundings) -> None:
    record_skipped_gates(around)
    record_skipped_gates(replace(around, attempt=2, run_id="run-2"))

    [row] = gate_rows(around.evidence.folder)
    row.pop("chain", None)
    assert row == {
        "gate": "all",
        "status": "skipped",
        "reason": "--skip-gates",
        "exit_code": None,
        "command": None,
        "started_at": "2026-02-25T08:00:00.000Z",
        "finished_at": "2026-02-25T08:00:00.000Z",
        "duration_seconds": 0,
        "log_file": None,
        "log_sha256": None,
        "attempt": 1,
        "run_id": "run-1",
    }


def test_a_gate_runs_in_the_checkout_with_the_callers_environment(
    plan: Plan, real: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "check out"
    (folder / "scripts").mkdir(parents=True)
    script = folder / "scripts/a gate.sh"
    script.write_text('#!/bin/sh\necho "$1 in $(pwd) with $CHOSEN"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CHOSEN", "a value")

    row = run_gate(Gate("one", "'scripts/a gate.sh' x"), replace(plan, repo_root=folder), real)

    assert log_of(row, real) == f"x in {folder} with a value\n".encode()


def test_a_gate_has_its_name_and_a_temporary_folder_of_its_own_and_nothing_that_is_ours(
    plan: Plan, real: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("CANARY_PIPELINE_ROLLOUT", "OA_STAGING_CANARY_SIGNING_KEY", "SSH_AUTH_SOCK")
    for name in (*ours, "OA_SPACETIME_STAGING_JWT_SIGNING_KEY"):
        monkeypatch.setenv(name, "given")
    shown = " ".join(f"${{{name}-none}}" for name in ours)
    command = (
        'touch "$TMPDIR/x"; mktemp > /dev/null; echo "$TMPDIR"; echo "$OA_CANARY_GATE '
        f'{shown} $OA_SPACETIME_STAGING_JWT_SIGNING_KEY"'
    )

    told = [log_of(run_gate(Gate(name, command), plan, real), real) for name in ("one", "two")]

    (first, names), (second, _) = (log.decode().splitlines() for log in told)
    assert names == "one none none none given"
    assert first != second
    assert not Path(first).exists()


def test_what_changes_staging_may_use_an_agent_but_is_no_gate(
    plan: Plan, real: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "socket")
    monkeypatch.setenv("CANARY_PIPELINE_ROLLOUT", "folder")
    command = 'echo "$SSH_AUTH_SOCK ${OA_CANARY_GATE-none} ${CANARY_PIPELINE_ROLLOUT-none} $MORE"'

    run_logged(command, "logs/apply-5.log", plan, real, {"MORE": "more"})

    log = (real.evidence.folder / "logs/apply-5.log").read_text()
    assert log == "socket none none more\n"


def test_a_gate_without_room_for_temporary_files_fails_with_the_reason(
    plan: Plan, real: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")

    row = run_gate(Gate("one", "true"), plan, real)

    assert (row.status, row.reason) == ("failed", "cannot_start")
    assert row.detail == "could not start: no temporary folder: No such file or directory"


def test_a_gate_is_in_flight_while_it_runs(plan: Plan, real: Surroundings) -> None:
    seen: list[InFlight] = []

    run_gate(
        Gate("one", "sleep 0.3"),
        plan,
        replace(real, check_owner=lambda: seen.extend(real.evidence.all_in_flight())),
    )

    assert {(state.step, state.phase) for state in seen} == {("gate one", "running")}
    assert real.evidence.all_in_flight() == []


def test_a_log_can_be_read_while_its_gate_runs(plan: Plan, real: Surroundings) -> None:
    log = real.evidence.folder / "logs/gate-one.log"
    go = plan.repo_root / "go"

    def once_read() -> None:
        if log.exists() and b"early" in log.read_bytes():
            go.touch()

    # What may be the beginning of a token is held back: more must follow.
    command = "echo early; echo and some more words; until [ -e go ]; do sleep 0.01; done"
    row = run_gate(Gate("one", command), plan, replace(real, check_owner=once_read))

    assert row.status == "passed"


def test_a_gate_that_runs_again_has_a_new_log(plan: Plan, real: Surroundings) -> None:
    run_gate(Gate("one", "echo a long first log; exit 1"), plan, real)
    row = run_gate(Gate("one", "echo second"), plan, replace(real, attempt=2))

    assert log_of(row, real) == b"second\n"
    assert row.log_sha256 == hashlib.sha256(b"second\n").hexdigest()


def _run_on_a_full_disk(plan: Plan, around: Surroundings) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    run_gate(Gate("one", "head -c 100000 /dev/zero; echo > to-the-end"), plan, around)


def test_a_log_that_cannot_be_written_fails_its_gate_and_not_the_rollout(
    plan: Plan, real: Surroundings
) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_run_on_a_full_disk, args=(plan, real))
    child.start()
    child.join()

    assert child.exitcode == 0
    assert (plan.repo_root / "to-the-end").exists()
    [row] = real.evidence.record().gate_rows
    assert (row.status, row.reason, row.exit_code) == ("failed", "log_not_written", 0)
    assert row.detail == "its log could not be written: File too large"
    assert row.log_sha256 == real.evidence.sha256("logs/gate-one.log")


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
        "from canary_pipeline.outside import command as process\n"
        "from canary_pipeline.outside.clock import SystemClock\n"
        "process.run(['bash', '-c', sys.argv[1]], Path('.'), os.environ, write=lambda data: None,"
        " timeout_seconds=60, clock=SystemClock())\n"
    )
    script = f"trap '' INT TERM; sleep 60 & echo $! > {pid_file}; wait"
    owner = subprocess.Popen([sys.executable, "-c", program, script])
    await_true(lambda: pid_file.exists() and pid_file.read_text())
    await_true(lambda: len(children_of(owner.pid)) == 2)  # the gate, and what guards it

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
    row = run_gate(Gate("one", "head -c 100000000 /dev/zero"), plan, real)

    assert row.status == "passed"
    assert len(log_of(row, real)) == 100_000_000


@pytest.mark.parametrize(
    "command",
    [
        "echo before secret-token after",
        "printf 'before secret'; sleep 0.3; printf -- '-token after\\n'",
        "printf 'before secret'; sleep 0.3; printf -- '-token after\\n' >&2",
        "printf before; for c in ' ' s e c r e t - t o k e n; do printf '%s' \"$c\"; sleep 0.03; "
        "done; echo ' after'",
    ],
)
def test_a_token_never_reaches_the_log(command: str, plan: Plan, real: Surroundings) -> None:
    row = run_gate(Gate("one", command), plan, real)

    assert log_of(row, real) == b"before [redacted] after\n"


def test_a_token_across_the_chunks_of_a_flood_never_reaches_the_log(
    plan: Plan, real: Surroundings
) -> None:
    command = "for n in $(seq 20000); do printf 'secret-token and %s\\n' $n; done"

    row = run_gate(Gate("one", command), plan, real)

    expected = "".join(f"[redacted] and {number}\n" for number in range(1, 20001))
    assert log_of(row, real) == expected.encode()


def test_no_argument_of_a_gate_holds_the_token(
    plan: Plan, real: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OA_STAGING_CONTROL_AUTH_TOKEN", "secret-token")
    command = "tr '\\0' ' ' < /proc/$$/cmdline; tr '\\0' ' ' < /proc/$PPID/cmdline"

    row = run_gate(Gate("one", command), plan, real)

    assert b"[redacted]" not in log_of(row, real)
    assert b"secret-token" not in log_of(row, real)


def test_a_token_that_a_gate_read_before_it_was_renewed_never_reaches_the_log(
    plan: Plan, real: Surroundings, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first-token")
    command = f"old=$(cat {file}); echo second-token > {file}; echo $old"

    row = run_gate(Gate("one", command), plan, replace(real, redactor=Redactor(TokenFile(file))))

    assert log_of(row, real) == b"[redacted]\n"


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


def test_a_token_that_came_and_went_while_the_gate_was_quiet_never_reaches_the_log(
    plan: Plan, real: Surroundings, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first-token")
    command = (
        f"echo second-token > {file}; kept=$(cat {file}); sleep 0.8; "
        f"echo third-token > {file}; echo $kept"
    )

    row = run_gate(Gate("one", command), plan, replace(real, redactor=Redactor(TokenFile(file))))

    assert log_of(row, real) == b"[redacted]\n"
