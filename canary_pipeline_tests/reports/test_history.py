"""Past rollouts are read as their folders tell them, and never better than that."""

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from canary_pipeline.model.moment import moment_of, rfc3339
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.history import (
    LONGEST_REASON,
    PastRollout,
    past_rollouts,
    read_rollout,
)
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.builders import add, cohort, gate, passed


@pytest.fixture
def allowed(context: Context) -> Evidence:
    add(context.evidence, gate("one", duration_seconds=3.5), gate("two", duration_seconds=61.0))
    add(context.evidence, *passed(context.plan)[2:])
    context.clock.sleep(90)
    assert conclude(context, "finished").allowed
    return context.evidence


@pytest.fixture
def older(allowed: Evidence) -> Evidence:
    """The same, as a version wrote it that knew no `decision.json`."""
    (allowed.folder / "decision.json").unlink()
    change_header(allowed, decided_at=None)
    return allowed


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
        verifies=True,
        decided_at=started_at + timedelta(seconds=90),
        commit=None,
        what_blocked="",
        attempts=1,
        outcome="finished",
        gate_seconds=(("one", 3.5), ("two", 61.0)),
        probe_failures=0,
        cohorts=(5, 100),
        highest_passed=100,
        launched_by="a test",
    )
    assert max(read_rollout(allowed).gate_seconds, key=lambda gate: gate[1]) == ("two", 61.0)


def test_a_blocked_rollout_tells_its_first_reasons_and_counts_the_rest(context: Context) -> None:
    add(context.evidence, gate("one", "failed", detail="exit code 1"))
    add(context.evidence, cohort(5, "failed", http_status=503))
    conclude(context, "finished")

    past = read_rollout(context.evidence)

    assert past.decision == "block"
    assert past.what_blocked == "gate one failed: exit code 1; gate two has no result; and 2 more"
    assert (past.probe_failures, past.highest_passed) == (1, None)


def test_a_rollout_that_goes_on_is_not_allowed_by_what_was_decided_before(
    allowed: Evidence, context: Context
) -> None:
    attempts.join(allowed, "run-2", "somebody else", context.clock)

    past = read_rollout(allowed)

    assert (past.decision, past.outcome, past.attempts) == (None, "killed", 2)
    assert past.what_blocked.endswith(": attempt 2 is under way, or was killed")
    assert (past.ended_at, past.duration_seconds, past.verifies) == (None, None, None)
    assert past.launched_by == "a test"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("SUMMARY.md", None),
        ("decision.json", None),
        ("decision.json", b"{}"),
        ("gate-results.jsonl", b"{}\n"),
        ("cohort-5.json", b"{}"),
    ],
)
def test_what_does_not_follow_from_its_folder_is_no_decision(
    name: str, data: bytes | None, allowed: Evidence
) -> None:
    allowed.remove(name) if data is None else allowed.write_bytes(name, data)

    past = read_rollout(allowed)

    assert (past.decision, past.verifies) == (None, False)
    assert past.what_blocked.startswith(f"no decision: {name} ")


@pytest.mark.parametrize("outcome", [None, "aborted", "crashed"])
def test_an_allow_whose_last_attempt_did_not_finish_is_no_decision(
    older: Evidence, outcome: str | None
) -> None:
    [attempt] = json.loads((older.folder / "rollout.json").read_text())["attempts"]
    change_header(older, attempts=[{**attempt, "outcome": outcome}])

    past = read_rollout(older)

    assert past.decision is None
    told = outcome or "killed"
    denied = f"no decision: SUMMARY.md says allow, but its last attempt is {told}"
    assert past.what_blocked.startswith(denied)


@pytest.mark.parametrize(
    ("denied_by", "why"),
    [
        ("no row", "cohort 5 % has no result"),
        ("an odd row", "gate-results.jsonl line 3 is not a row"),
        ("a failed row", r"gate one failed: a\n\x1b[31mb"),
    ],
)
def test_an_allow_that_the_rows_deny_is_no_decision(
    denied_by: str, why: str, older: Evidence
) -> None:
    if denied_by == "no row":
        (older.folder / "cohort-results.jsonl").unlink()
    elif denied_by == "an odd row":
        with (older.folder / "gate-results.jsonl").open("a") as file:
            file.write("{}\n")
    else:
        add(older, gate("one", "failed", detail="a\n\x1b[31mb"))

    past = read_rollout(older)

    assert past.decision is None
    told = past.what_blocked.removeprefix("no decision: SUMMARY.md says allow, but ")
    assert told.startswith(why)


@pytest.mark.parametrize(
    ("text", "decided"),
    [
        ("Decision: allow\n", "allow"),
        ("Decision: block\n", "block"),
        ("Decision: allow\nmore\n", None),
        ("- Decision: allow\n", None),
        ("Decision: allow it\n", None),
        ("decision: allow\n", None),
        ("", None),
    ],
)
def test_only_the_last_line_of_the_summary_decides(
    text: str, decided: str | None, older: Evidence
) -> None:
    older.write_text("SUMMARY.md", text)

    assert written_decision(older) == decided
    assert read_rollout(older).decision == decided


def test_a_rollout_without_a_summary_tells_how_far_it_came(context: Context) -> None:
    add(context.evidence, *passed(context.plan))

    past = read_rollout(context.evidence)

    assert (past.decision, past.outcome) == (None, "killed")
    assert past.what_blocked.startswith("no decision: ")
    assert past.highest_passed == 100


def test_what_blocked_is_one_short_line(context: Context) -> None:
    detail = "\x1b[31mred\nDecision: allow\n## Why\n- forged " + "x" * 1000
    add(context.evidence, gate("one", "failed", detail=detail))
    conclude(context, "finished")

    told = read_rollout(context.evidence).what_blocked

    assert told.isprintable()
    assert told.count("; ") == 2
    assert len(told) < 3 * LONGEST_REASON


def test_gates_count_by_their_last_run_and_skipped_ones_do_not(evidence: Evidence) -> None:
    ran = [("one", 10.0), ("one", 20.0), ("two", float("nan"))]
    add(evidence, *(gate(name, duration_seconds=seconds) for name, seconds in ran))

    assert read_rollout(evidence).gate_seconds == (("one", 20.0),)


# -- many folders -----------------------------------------------------------------------------


def copies(evidence: Evidence, root: Path, count: int) -> None:
    """Rollouts like this one, an hour apart."""
    for number in range(count):
        folder = root / f"rollout-{number}"
        shutil.copytree(evidence.folder, folder)
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        change_header(Evidence(folder), started_at=rfc3339(started))


def test_the_newest_come_first_whatever_their_names(older: Evidence, tmp_path: Path) -> None:
    copies(older, tmp_path / "root", 12)

    newest = [past.folder.name for past in past_rollouts(tmp_path / "root", 3)]

    assert newest == ["rollout-11", "rollout-10", "rollout-9"]
    assert len(past_rollouts(tmp_path / "root")) == 12


def test_of_many_only_those_are_read_whose_names_do_not_say_that_they_are_older(
    older: Evidence, tmp_path: Path
) -> None:
    copies(older, tmp_path / "root", 6)
    for number, environment in enumerate(("eu", "us", "eu", "us", "eu")):
        name = f"{environment}-20260101T{number:02}0000Z"
        (tmp_path / f"root/rollout-{number}").rename(tmp_path / "root" / name)
        change_header(Evidence(tmp_path / "root" / name), environment=environment)
    (tmp_path / "root/eu-20260101T000000Z/rollout.json").write_text("never read")

    def names(limit: int, *environments: str) -> list[str]:
        found = past_rollouts(tmp_path / "root", limit, environments or None)
        return [past.folder.name for past in found]

    assert names(2) == ["rollout-5", "eu-20260101T040000Z"]
    assert names(2, "us") == ["us-20260101T030000Z", "us-20260101T010000Z"]
    assert names(2, "eu") == ["eu-20260101T040000Z", "eu-20260101T020000Z"]
    assert names(9, "staging") == ["rollout-5"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"environment": 1}', b"[" * 100000, None]
)
def test_a_header_that_cannot_be_read_is_a_problem_and_no_traceback(
    older: Evidence, tmp_path: Path, content: bytes | None
) -> None:
    root = tmp_path / "root"
    copies(older, root, 1)
    header = root / "broken/rollout.json"
    header.parent.mkdir()
    header.mkdir() if content is None else header.write_bytes(content)

    broken, whole = past_rollouts(root)

    assert broken.folder == root / "broken"
    assert (broken.problem or "").startswith("rollout.json cannot be read: ")
    assert (broken.decision, broken.outcome) == (None, None)
    assert whole.decision == "allow"


def test_a_folder_that_was_only_opened_is_told(evidence: Evidence) -> None:
    """Also where its start is no moment."""
    change_header(evidence, attempts=[], started_at="yesterday")

    [past] = past_rollouts(evidence.folder.parent)

    assert (past.decision, past.outcome, past.attempts) == (None, "not begun", 0)
    assert (past.started_at, past.duration_seconds) == (None, None)


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
        (None, None),
    ],
)
def test_a_moment_is_read_or_is_none(text: str | None, moment: datetime | None) -> None:
    assert moment_of(text) == moment


@pytest.mark.prove
def test_a_thousand_rollouts_are_read_in_a_second(older: Evidence, tmp_path: Path) -> None:
    root = tmp_path / "root"
    copies(older, root, 1000)

    def seconds() -> float:
        started = time.perf_counter()
        assert len(past_rollouts(root)) == 1000
        return time.perf_counter() - started

    assert min(seconds() for _ in range(3)) < 1
