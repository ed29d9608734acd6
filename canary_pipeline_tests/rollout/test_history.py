"""Past rollouts are read as their folders tell them, and never better than that."""

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from canary_pipeline.model.plan import Plan
from canary_pipeline.model.rows import CohortRow, GateRow
from canary_pipeline.outside.clock import rfc3339
from canary_pipeline.reports.history import (
    LONGEST_REASON,
    PastRollout,
    moment_of,
    past_rollouts,
    read_rollout,
)
from canary_pipeline.rollout import attempts
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.rollout.conftest import FakeClock


def add_passed_rows(evidence: Evidence) -> None:
    for name, seconds in (("one", 3.5), ("two", 61.0)):
        evidence.add_gate_row(
            GateRow(gate=name, status="passed", duration_seconds=seconds, attempt=1, run_id="run-1")
        )
    for percent in (5, 100):
        evidence.add_cohort_row(
            CohortRow(cohort_percent=percent, status="passed", attempt=1, run_id="run-1")
        )


@pytest.fixture
def allowed(evidence: Evidence, clock: FakeClock) -> Evidence:
    add_passed_rows(evidence)
    clock.sleep(90)
    assert attempts.end(evidence, "run-1", "finished", None, clock).allowed
    return evidence


def change_header(evidence: Evidence, **values: object) -> None:
    file = evidence.folder / "rollout.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_an_allowed_rollout_is_told_whole(allowed: Evidence) -> None:
    started_at = datetime(2026, 2, 25, 8, 0, tzinfo=UTC)

    assert read_rollout(allowed) == PastRollout(
        folder=allowed.folder,
        environment="staging",
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=90),
        duration_seconds=90.0,
        decision="allow",
        what_blocked="",
        attempts=1,
        outcome="finished",
        gate_seconds=(("one", 3.5), ("two", 61.0)),
        probe_failures=0,
        cohorts=(5, 100),
        highest_passed=100,
        launched_by="a test",
    )
    assert read_rollout(allowed).longest_gate == ("two", 61.0)


def test_a_blocked_rollout_tells_its_first_reasons_and_counts_the_rest(
    evidence: Evidence, clock: FakeClock
) -> None:
    evidence.add_gate_row(
        GateRow(gate="one", status="failed", detail="exit code 1", attempt=1, run_id="run-1")
    )
    evidence.add_cohort_row(
        CohortRow(cohort_percent=5, status="failed", http_status=503, attempt=1, run_id="run-1")
    )
    attempts.end(evidence, "run-1", "finished", None, clock)

    past = read_rollout(evidence)

    assert past.decision == "block"
    assert past.what_blocked == "gate one failed: exit code 1; gate two has no result; and 2 more"
    assert past.probe_failures == 1
    assert past.highest_passed is None


def test_a_reason_that_only_the_summary_knows_is_told(
    allowed: Evidence, clock: FakeClock, plan: Plan
) -> None:
    opened = attempts.open_rollout(plan, allowed.folder.parent / "abandoned", clock)
    attempts.abandon(opened, "interrupted outside its steps", clock)

    past = read_rollout(opened)

    assert (past.decision, past.outcome) == ("block", "not begun")
    assert past.what_blocked.startswith("interrupted outside its steps; ")


def test_a_rollout_that_goes_on_is_not_allowed_by_what_was_decided_before(
    allowed: Evidence, clock: FakeClock
) -> None:
    attempts.join(allowed, "run-2", "somebody else", clock)

    past = read_rollout(allowed)

    assert (past.decision, past.outcome, past.attempts) == ("block", "under way or killed", 2)
    assert past.what_blocked == "attempt 2 is under way"
    assert past.ended_at is None
    assert past.duration_seconds is None
    assert past.launched_by == "a test"


@pytest.mark.parametrize("outcome", [None, "aborted", "crashed"])
def test_an_allow_whose_last_attempt_did_not_finish_is_no_decision(
    allowed: Evidence, outcome: str | None
) -> None:
    [attempt] = json.loads((allowed.folder / "rollout.json").read_text())["attempts"]
    change_header(allowed, attempts=[{**attempt, "outcome": outcome}])

    past = read_rollout(allowed)

    assert past.decision is None
    told = outcome or "under way or killed"
    assert past.what_blocked.startswith(
        f"no decision: SUMMARY.md says allow, but its last attempt is {told}"
    )


def test_an_allow_that_the_rows_deny_is_no_decision(allowed: Evidence) -> None:
    (allowed.folder / "cohort-results.jsonl").unlink()

    past = read_rollout(allowed)

    assert past.decision is None
    assert past.what_blocked.startswith(
        "no decision: SUMMARY.md says allow, but cohort 5 % has no result"
    )


def test_a_row_that_cannot_be_read_denies_an_allow(allowed: Evidence) -> None:
    with (allowed.folder / "gate-results.jsonl").open("a") as file:
        file.write("{}\n")

    assert read_rollout(allowed).decision is None


@pytest.mark.parametrize("last_line", ["", "Decision: allow it", "decision: allow"])
def test_a_summary_that_says_neither_is_no_decision(allowed: Evidence, last_line: str) -> None:
    summary = allowed.folder / "SUMMARY.md"
    summary.write_text(summary.read_text().replace("Decision: allow", "") + last_line)

    assert read_rollout(allowed).decision is None


def test_a_rollout_without_a_summary_tells_how_far_it_came(evidence: Evidence) -> None:
    add_passed_rows(evidence)

    past = read_rollout(evidence)

    assert (past.decision, past.outcome) == (None, "under way or killed")
    assert past.what_blocked == "no decision: under way or killed"
    assert past.highest_passed == 100


def test_what_blocked_is_one_short_line(evidence: Evidence, clock: FakeClock) -> None:
    detail = "\x1b[31mred\nDecision: allow\n## Why\n- forged " + "x" * 1000
    evidence.add_gate_row(
        GateRow(gate="one", status="failed", detail=detail, attempt=1, run_id="run-1")
    )
    attempts.end(evidence, "run-1", "finished", None, clock)

    told = read_rollout(evidence).what_blocked

    assert told.isprintable()
    assert told.count("; ") == 2
    assert len(told) < 3 * LONGEST_REASON


def test_what_denies_an_allow_is_one_line_too(allowed: Evidence) -> None:
    allowed.add_gate_row(
        GateRow(gate="one", status="failed", detail="a\n\x1b[31mb", attempt=1, run_id="run-1")
    )

    told = read_rollout(allowed).what_blocked

    assert told == "no decision: SUMMARY.md says allow, but gate one failed: a  [31mb"


def test_gates_count_by_their_last_run_and_skipped_ones_do_not(evidence: Evidence) -> None:
    for seconds in (10.0, 20.0, float("nan")):
        name = "one" if seconds < 100 else "two"
        evidence.add_gate_row(
            GateRow(gate=name, status="passed", duration_seconds=seconds, attempt=1, run_id="run-1")
        )

    assert read_rollout(evidence).gate_seconds == (("one", 20.0),)


# -- many folders -----------------------------------------------------------------------------


def copies(evidence: Evidence, root: Path, count: int) -> None:
    """Rollouts like this one, an hour apart."""
    for number in range(count):
        folder = root / f"rollout-{number}"
        shutil.copytree(evidence.folder, folder)
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        change_header(Evidence(folder), started_at=rfc3339(started))


def test_the_newest_come_first_whatever_their_names(allowed: Evidence, tmp_path: Path) -> None:
    root = tmp_path / "root"
    copies(allowed, root, 12)

    assert [past.folder.name for past in past_rollouts(root, 3)] == [
        "rollout-11",
        "rollout-10",
        "rollout-9",
    ]
    assert len(past_rollouts(root)) == 12


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"environment": 1}', b"[" * 100000]
)
def test_a_header_that_cannot_be_read_is_a_problem_and_no_traceback(
    allowed: Evidence, tmp_path: Path, content: bytes
) -> None:
    root = tmp_path / "root"
    copies(allowed, root, 1)
    (root / "broken").mkdir()
    (root / "broken" / "rollout.json").write_bytes(content)

    broken, whole = past_rollouts(root)

    assert broken.folder == root / "broken"
    assert broken.problem is not None
    assert broken.problem.startswith("rollout.json cannot be read: ")
    assert (broken.decision, broken.outcome) == (None, None)
    assert whole.decision == "allow"


def test_a_header_that_is_a_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "odd" / "rollout.json").mkdir(parents=True)

    [odd] = past_rollouts(tmp_path)

    assert odd.problem == "rollout.json cannot be read: [Errno 21] Is a directory: 'rollout.json'"


def test_a_folder_that_was_only_opened_is_told(evidence: Evidence) -> None:
    change_header(evidence, attempts=[])

    [past] = past_rollouts(evidence.folder.parent)

    assert (past.decision, past.outcome, past.attempts) == (None, "not begun", 0)


def test_what_is_no_rollout_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    assert past_rollouts(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-02-25T08:00:00.000Z", datetime(2026, 2, 25, 8, 0, tzinfo=UTC)),
        ("2026-02-25T08:00:00", datetime(2026, 2, 25, 8, 0, tzinfo=UTC)),
        ("2026-02-25T08:00:00+02:00", datetime(2026, 2, 25, 6, 0, tzinfo=UTC)),
        ("9999-12-31T23:59:59-14:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_a_moment_is_read_or_is_none(text: str | None, moment: datetime | None) -> None:
    assert moment_of(text) == moment


def test_a_start_that_is_no_moment_still_has_a_place(allowed: Evidence) -> None:
    change_header(allowed, started_at="yesterday")

    [past] = past_rollouts(allowed.folder.parent)

    assert past.started_at is None
    assert past.duration_seconds is None


@pytest.mark.prove
def test_a_thousand_rollouts_are_read_in_a_second(allowed: Evidence, tmp_path: Path) -> None:
    root = tmp_path / "root"
    copies(allowed, root, 1000)

    def seconds() -> float:
        started = time.perf_counter()
        assert len(past_rollouts(root)) == 1000
        return time.perf_counter() - started

    assert min(seconds() for _ in range(3)) < 1
