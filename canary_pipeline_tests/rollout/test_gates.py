"""A gate: how it ends as a row, where its log is, and what never gets into that.

How the process itself is started, bounded and ended is tested with `outside/command.py`.
"""

import multiprocessing
import re
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from canary_pipeline.model.plan import Gate
from canary_pipeline.model.record import InFlight
from canary_pipeline.model.rows import GateRow
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.stop import StoppedError
from canary_pipeline.outside.token import Redactor, TokenFile
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.gate import record_skipped_gates, run_gate
from canary_pipeline.rollout.logged_command import run_logged
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.conftest import TOKEN, gate_rows
from canary_pipeline_tests.rollout.conftest import FakeClock, commit, next_attempt, planned


@pytest.fixture
def context(context: Context) -> Context:
    """One with the machine's own clock."""
    return replace(context, clock=SystemClock())


def ran(command: str, context: Context) -> GateRow:
    return run_gate(Gate("one", command), context)


def log_of(row: GateRow, context: Context) -> bytes:
    return (context.evidence.folder / (row.log_file or "no log")).read_bytes()


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
    context: Context,
) -> None:
    row = ran(command, planned(context, gate_timeout_seconds=1))

    assert (row.status, row.reason, row.exit_code) == (status, reason, exit_code)
    assert (row.detail or None) == detail
    assert context.evidence.record().gate_rows == (row,)


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
    command: str, more: dict[str, object], context: Context
) -> None:
    ran(command, next_attempt(context))

    [row] = gate_rows(context.evidence.folder)
    times = [row.pop("started_at"), row.pop("finished_at")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    assert times == sorted(times)
    assert 0 < row.pop("duration_seconds") < 10
    assert re.fullmatch("[0-9a-f]{32}", row.pop("chain"))
    assert row == {
        "gate": "one",
        **more,
        "command": command,
        "log_file": "logs/gate-one.2.log",
        "log_sha256": context.evidence.sha256("logs/gate-one.2.log"),
        "commit": None,
        "dirty": None,
        "attempt": 2,
        "run_id": "run-2",
    }


def test_a_row_tells_which_commit_its_gate_saw_and_what_it_did_to_it(
    context: Context, tmp_path: Path
) -> None:
    first = commit(tmp_path / "repo")
    context = planned(context, repo_root=str(tmp_path / "repo"))

    clean = ran("true", context)
    moved = ran("git -c user.name=a -c user.email=a@b commit --allow-empty -m more", context)
    dirtied = ran("touch more", context)
    dirty = ran("rm more", context)

    assert (clean.commit, clean.commit_after, clean.dirty) == (first, None, False)
    assert (moved.commit, moved.dirty, moved.commit_after) == (first, False, dirtied.commit)
    assert (dirtied.commit_after, dirtied.dirty, dirty.dirty) == (None, True, True)
    warned = [warning.message for warning in context.evidence.record().warnings]
    assert [message[:36] for message in warned] == ["the checkout changed while it ran, f"] * 3


def test_a_duration_is_measured_by_the_clock_that_never_jumps(
    context: Context, clock: FakeClock
) -> None:
    def a_moment_passes() -> None:
        clock.seconds += 1.5 if clock.seconds == 0 else 0
        clock.wall = clock.wall.replace(year=2001)

    row = ran("sleep 0.3", replace(context, check_stop=a_moment_passes, clock=clock))

    assert row.duration_seconds == pytest.approx(1.5)


def test_a_skipped_run_of_the_gates_is_one_row(context: Context, clock: FakeClock) -> None:
    context = replace(context, clock=clock)
    record_skipped_gates(context)
    record_skipped_gates(next_attempt(context))

    [row] = gate_rows(context.evidence.folder)
    assert {name: value for name, value in row.items() if value and name != "chain"} == {
        "gate": "all",
        "status": "skipped",
        "reason": "--skip-gates",
        "started_at": "2026-02-25T08:00:00.000Z",
        "finished_at": "2026-02-25T08:00:00.000Z",
        "attempt": 1,
        "run_id": "run-1",
    }
    assert {"exit_code", "command", "log_file", "log_sha256"} <= row.keys()


def test_a_gate_runs_in_the_checkout_with_the_callers_environment_and_its_name(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "check out"
    (folder / "scripts").mkdir(parents=True)
    script = folder / "scripts/a gate.sh"
    script.write_text('#!/bin/sh\necho "$1 in $(pwd) with $CHOSEN for $OA_CANARY_GATE"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CHOSEN", "a value")

    row = ran("'scripts/a gate.sh' x", planned(context, repo_root=str(folder)))

    assert log_of(row, context) == f"x in {folder} with a value for one\n".encode()


def test_a_gate_is_in_flight_and_its_log_can_be_read_while_it_runs(
    context: Context, tmp_path: Path
) -> None:
    seen: list[InFlight] = []

    def once_read() -> None:
        seen.extend(context.evidence.all_in_flight())
        if b"early" in context.evidence.read_bytes("logs/gate-one.log"):
            (tmp_path / "go").touch()

    # What may be the beginning of a token is held back: more must follow.
    command = "echo early; echo and some more words; until [ -e go ]; do sleep 0.01; done"
    row = ran(command, replace(context, check_stop=once_read))

    assert row.status == "passed"
    assert {(state.step, state.phase) for state in seen} == {("gate one", "running")}
    assert context.evidence.all_in_flight() == []


def test_a_gate_that_is_stopped_leaves_no_row_and_stays_in_flight(
    context: Context, tmp_path: Path
) -> None:
    def stop() -> None:
        if (tmp_path / "begun").exists():
            raise StoppedError("stopped by SIGINT")

    with pytest.raises(StoppedError):
        ran("touch begun; sleep 60", replace(context, check_stop=stop))

    assert context.evidence.record().gate_rows == ()
    assert [state.step for state in context.evidence.all_in_flight()] == ["gate one"]


def test_a_gate_that_runs_again_leaves_the_log_of_the_attempt_before(context: Context) -> None:
    first = ran("echo first; exit 1", context)
    second = ran("echo second", next_attempt(context))

    assert (log_of(first, context), log_of(second, context)) == (b"first\n", b"second\n")
    assert context.evidence.verified_record().problems == ()


def _run_on_a_full_disk(context: Context) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    ran("head -c 100000 /dev/zero; echo > to-the-end", context)


def test_a_log_that_cannot_be_written_fails_its_gate_and_not_the_rollout(
    context: Context, tmp_path: Path
) -> None:
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=_run_on_a_full_disk, args=(context,))
    child.start()
    child.join()

    assert child.exitcode == 0
    assert (tmp_path / "to-the-end").exists()
    [row] = context.evidence.record().gate_rows
    assert (row.status, row.reason, row.exit_code) == ("failed", "log_not_written", 0)
    assert row.detail == "its log could not be written: File too large"
    assert row.log_sha256 == context.evidence.sha256("logs/gate-one.log")


def test_a_checkout_that_vanished_is_a_failed_row(context: Context) -> None:
    row = ran("true", planned(context, repo_root="/no/such/folder"))

    assert (row.status, row.reason, row.exit_code) == ("failed", "cannot_start", None)
    assert b"/no/such/folder" in log_of(row, context)


def test_output_of_both_kinds_is_kept_in_order_and_whole_whatever_it_is(context: Context) -> None:
    row = ran(r"printf 'a\0'; printf 'b\377' >&2; head -c 100000000 /dev/zero; printf c", context)

    assert row.status == "passed"
    assert log_of(row, context) == b"a\0b\xff" + bytes(100_000_000) + b"c"


# -- the token --------------------------------------------------------------------------------

START, END = TOKEN[:7], TOKEN[7:]


@pytest.mark.parametrize(
    "command",
    [
        f"echo before {TOKEN} after",
        f"printf 'before {START}'; sleep 0.3; printf -- '{END} after\\n' >&2",
        f"printf 'before '; for c in {' '.join(TOKEN)}; do printf '%s' $c; sleep 0.03; done; "
        "echo ' after'",
    ],
)
def test_a_token_never_reaches_the_log(command: str, context: Context) -> None:
    assert log_of(ran(command, context), context) == b"before [redacted] after\n"


def test_no_argument_of_a_gate_holds_the_token(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OA_STAGING_CONTROL_AUTH_TOKEN", TOKEN)

    row = ran("tr '\\0' ' ' < /proc/$$/cmdline; tr '\\0' ' ' < /proc/$PPID/cmdline", context)

    assert b"bash -c" in log_of(row, context)
    assert b"[redacted]" not in log_of(row, context)
    assert TOKEN.encode() not in log_of(row, context)


@pytest.mark.parametrize(
    ("command", "log"),
    [
        ("old=$(cat token); echo second-token > token; echo $old", "[redacted]\n"),
        (
            "echo first-token; sleep 0.3; echo second-token > token; echo second-token first-token",
            "[redacted]\n[redacted] [redacted]\n",
        ),
        (
            "echo second-token > token; kept=$(cat token); sleep 0.8; echo third-token > token; "
            "echo $kept",
            "[redacted]\n",
        ),
    ],
    ids=["read before", "renewed while it runs", "come and gone while it was quiet"],
)
def test_a_token_that_is_renewed_never_reaches_the_log(
    command: str, log: str, context: Context, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first-token")
    evidence = Evidence(context.evidence.folder, Redactor(TokenFile(file)))

    row = ran(command, replace(context, evidence=evidence))

    assert log_of(row, context) == log.encode()


def test_a_gate_has_its_name_and_a_temporary_folder_of_its_own_and_nothing_that_is_ours(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("CANARY_PIPELINE_ROLLOUT", "OA_STAGING_CANARY_SIGNING_KEY", "SSH_AUTH_SOCK")
    for name in (*ours, "OA_SPACETIME_STAGING_JWT_SIGNING_KEY"):
        monkeypatch.setenv(name, "given")
    shown = " ".join(f"${{{name}-none}}" for name in ours)
    command = (
        'touch "$TMPDIR/x"; mktemp > /dev/null; echo "$TMPDIR"; echo "$OA_CANARY_GATE '
        f'{shown} $OA_SPACETIME_STAGING_JWT_SIGNING_KEY"'
    )

    told = [log_of(run_gate(Gate(name, command), context), context) for name in ("one", "two")]

    (first, names), (second, _) = (log.decode().splitlines() for log in told)
    assert names == "one none none none given"
    assert first != second
    assert not Path(first).exists()


def test_what_changes_staging_may_use_an_agent_but_is_no_gate(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "socket")
    monkeypatch.setenv("CANARY_PIPELINE_ROLLOUT", "folder")
    command = 'echo "$SSH_AUTH_SOCK ${OA_CANARY_GATE-none} ${CANARY_PIPELINE_ROLLOUT-none} $MORE"'

    run_logged(command, "logs/apply-5.log", context, {"MORE": "more"})

    assert context.evidence.read_text("logs/apply-5.log") == "socket none none more\n"


def test_a_gate_without_room_for_temporary_files_fails_with_the_reason(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")

    row = run_gate(Gate("one", "true"), context)

    assert (row.status, row.reason) == ("failed", "cannot_start")
    assert row.detail == "could not start: no temporary folder: No such file or directory"
