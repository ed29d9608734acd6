"""The decision, as a table and as properties."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.model.decision import Reason, decide, decide_so_far, owes_rollback
from canary_pipeline.model.record import Problem, Record
from canary_pipeline.model.rows import MISSING_PROBE_CONFIG, CohortRow, GateRow, RollbackRow
from canary_pipeline_tests.builders import (
    attempt,
    cohort,
    gate,
    header,
    passed,
    rolled_back,
    seen,
)

GATES = ("one", "two")
COHORTS = (5, 100)
GATE_ROWS_FILE, COHORT_ROWS_FILE = "gate-results.jsonl", "cohort-results.jsonl"


def record(
    *rows: GateRow | CohortRow | RollbackRow, problems: Sequence[Problem] = (), **changes: Any
) -> Record:
    """A rollout with these rows."""
    kinds: tuple[list[Any], ...] = tuple(
        [row for row in rows if isinstance(row, kind)] for kind in (GateRow, CohortRow, RollbackRow)
    )
    gates, cohorts, rollbacks = map(tuple, kinds)
    return Record(header(**changes), gates, cohorts, (), tuple(problems), rollbacks)


PASSED = passed(header())
PASSED_GATES, PASSED_COHORTS = PASSED[:2], PASSED[2:]


def exempt(percent: int) -> CohortRow:
    return cohort(percent, "skipped", reason=MISSING_PROBE_CONFIG)


def again(number: int = 2, outcome: str | None = "finished", **more: Any) -> Any:
    """Attempts of which the last one is this."""
    return [attempt(), attempt(number, outcome, **more)]


ANEW = again(gates_to_run=GATES, anew=True)

ALLOWED = {
    "everything passed": record(*PASSED),
    "skips for missing probe config": record(
        *PASSED_GATES, exempt(5), exempt(100), missing_for_probe=["auth_token"]
    ),
    "a failed gate that passed later": record(gate("one", "failed"), *PASSED),
    "a failed cohort that passed later": record(cohort(5, "failed"), *PASSED),
    "an aborted attempt, then a finished one": record(
        *PASSED, attempts=[attempt(1, "aborted"), attempt(2)]
    ),
    "a gate that the last attempt ran": record(
        *PASSED, gate("one", of=2), attempts=again(gates_to_run=["one"])
    ),
    "a soak of an older version, which did not measure it": record(
        *PASSED_GATES, *(row.model_copy(update={"soaked_seconds": None}) for row in PASSED_COHORTS)
    ),
    "a soak that lacks less than clocks tell": record(*PASSED, cohort(5, soaked_seconds=899.995)),
    "everything anew at another commit": record(
        *PASSED, *passed(header(), of=2), attempts=ANEW
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed(name: str) -> None:
    assert decide(ALLOWED[name]).reasons == ()


ONE = gate("one")
BLOCKED: dict[str, tuple[Record, list[tuple[str, str]]]] = {
    "a gate without a row": (
        record(ONE, *PASSED_COHORTS), [("gate two has no result", GATE_ROWS_FILE)],
    ),
    "a failed gate": (
        record(*PASSED, gate("two", "failed", detail="exit code 3", log_file="logs/gate-two.log")),
        [("gate two failed: exit code 3", "logs/gate-two.log")],
    ),
    "a skipped gate": (
        record(*PASSED, gate("two", "skipped")),
        [("gate two skipped: no reason recorded", GATE_ROWS_FILE)],
    ),
    "a gate that the last attempt was to run": (
        record(*PASSED, attempts=again(gates_to_run=["one"])),
        [("gate one has no result of attempt 2", GATE_ROWS_FILE)],
    ),
    "a dry run": (
        record(gate("all", "skipped"), *PASSED_COHORTS, skip_gates=True),
        [("gates were skipped (--skip-gates): a dry run", GATE_ROWS_FILE)],
    ),
    "a dry run whose gates have rows all the same": (
        record(*PASSED, skip_gates=True),
        [("gates were skipped (--skip-gates): a dry run", GATE_ROWS_FILE)],
    ),
    "no gate at all": (
        record(*PASSED, gates=[]), [("no gate is required, so none passed", "rollout.json")],
    ),
    "no cohort at all": (
        record(*PASSED, cohorts=[]), [("the rollout has no cohort", "rollout.json")],
    ),
    "a cohort without a row": (
        record(*PASSED_GATES, cohort(5)), [("cohort 100 % has no result", COHORT_ROWS_FILE)],
    ),
    "a probe that got another status": (
        record(*PASSED, cohort(
            100, "failed", reason="http_status", http_status=503, response_file="cohort-100.json",
        )),
        [("cohort 100 % failed: probe answered 503", "cohort-100.json")],
    ),
    "a probe that got no answer": (
        record(*PASSED, cohort(100, "failed", reason="timeout", error="none within 30 s")),
        [("cohort 100 % failed: timeout: none within 30 s", COHORT_ROWS_FILE)],
    ),
    "a cohort that could not be applied": (
        record(*PASSED, cohort(
            100, "failed", reason="apply_failed", error="exit code 3",
            apply_log_file="logs/apply-100.log",
        )),
        [("cohort 100 % failed: apply_failed: exit code 3", "logs/apply-100.log")],
    ),
    "a skip for another reason": (
        record(*PASSED, cohort(100, "skipped", reason="earlier_cohort_failed")),
        [("cohort 100 % skipped: earlier_cohort_failed", COHORT_ROWS_FILE)],
    ),
    "a skip for missing config of a rollout that was to probe": (
        record(*PASSED, exempt(100)),
        [("cohort 100 % was skipped although it was to be probed, or had failed before",
          COHORT_ROWS_FILE)],
    ),
    "a skip that would cover up a failure": (
        record(*PASSED, cohort(5, "failed"), exempt(5), missing_for_probe=["auth_token"]),
        [("cohort 5 % was skipped although it was to be probed, or had failed before",
          COHORT_ROWS_FILE)],
    ),
    "a soak that was too short": (
        record(*PASSED, cohort(5, soaked_seconds=450.0)),
        [("cohort 5 % passed, but soaked 450 s of 900 s", COHORT_ROWS_FILE)],
    ),
    "a soak that was planned too short": (
        record(*PASSED, cohort(5, soak_seconds=1.0)),
        [("cohort 5 % passed, but soaked 1 s of 900 s", COHORT_ROWS_FILE)],
    ),
    "cohorts that saw another commit": (
        record(*PASSED, gate("one", of=2), gate("two", of=2), cohort(5, of=2), attempts=ANEW),
        [("cohort 100 % passed at another commit, and has no result since", COHORT_ROWS_FILE)],
    ),
    "gates that saw another commit, of which the last attempt could run none": (
        record(*PASSED, *passed(header(), of=2)[2:], attempts=again(anew=True)),
        [("gate one has no result of attempt 2", GATE_ROWS_FILE),
         ("gate two has no result of attempt 2", GATE_ROWS_FILE)],
    ),
    "a checkout that moved": (
        record(*PASSED, attempts=[attempt(commit="a", commit_after="b")]),
        [("the checkout moved while it was tested: a and b", GATE_ROWS_FILE)],
    ),
    "a checkout that moved for a gate": (
        record(*PASSED, gate("one", commit="b"), attempts=[attempt(commit="a")]),
        [("the checkout moved while it was tested: a and b", GATE_ROWS_FILE)],
    ),
    "an attempt under way": (
        record(*PASSED, attempts=again(outcome=None)),
        [("attempt 2 is under way, or was killed", "rollout.json")],
    ),
    "an attempt that was aborted": (
        record(*PASSED, attempts=[attempt(1, "aborted")]),
        [("attempt 1 aborted: somehow", "rollout.json")],
    ),
    "an attempt that crashed": (
        record(*PASSED, attempts=again(outcome="crashed")),
        [("attempt 2 crashed: somehow", "rollout.json")],
    ),
    "a file that cannot be believed": (
        record(*PASSED, problems=[Problem("a", "is odd")]), [("a is odd", "a")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKED)
def test_what_blocks_with_the_value_seen_and_where_its_evidence_lies(name: str) -> None:
    blocked, reasons = BLOCKED[name]

    decision = decide(blocked)

    assert decision.word == "block"
    assert decision.reasons == tuple(Reason(*reason) for reason in reasons)


def test_an_attempt_under_way_would_be_allowed_if_it_ended_now() -> None:
    under_way, _ = BLOCKED["an attempt under way"]

    assert decide_so_far(under_way).allowed


STATUSES = st.sampled_from(["passed", "failed", "skipped"])
NOT_PASSED = st.sampled_from(["failed", "skipped"])
REASONS = st.sampled_from([None, MISSING_PROBE_CONFIG, "gates_not_passed"])
OTHER_REASONS = st.sampled_from([None, "gates_not_passed", "earlier_cohort_failed"])
ATTEMPTS = st.integers(1, 3)
ANY_GATE, ANY_COHORT = st.sampled_from(GATES), st.sampled_from(COHORTS)
ANY_GATE_ROW = st.builds(gate, st.sampled_from([*GATES, "all"]), STATUSES)
SOAKS = st.builds(cohort, ANY_COHORT, soaked_seconds=st.sampled_from([0.0, 899.0, 900.0]))
ANY_COHORT_ROW = SOAKS | st.builds(cohort, ANY_COHORT, STATUSES, reason=REASONS)
RECORDS = st.builds(
    lambda gates, cohorts, **changes: record(*gates, *cohorts, **changes),
    st.lists(ANY_GATE_ROW, max_size=8),
    st.lists(ANY_COHORT_ROW, max_size=8),
    missing_for_probe=st.sampled_from([(), ("auth_token",)]),
    skip_gates=st.booleans(),
)


@given(
    RECORDS,
    st.builds(gate, ANY_GATE, NOT_PASSED)
    | st.builds(cohort, ANY_COHORT, st.just("failed"), reason=REASONS)
    | st.builds(cohort, ANY_COHORT, st.just("skipped"), reason=OTHER_REASONS),
)
def test_a_row_that_did_not_pass_always_blocks(before: Record, row: GateRow | CohortRow) -> None:
    name = "gate_rows" if isinstance(row, GateRow) else "cohort_rows"
    rows: dict[str, Any] = {name: (*getattr(before, name), row)}

    assert not decide(replace(before, **rows)).allowed


@given(RECORDS, ANY_COHORT)
def test_a_skip_never_covers_up_a_failed_probe(before: Record, percent: int) -> None:
    rows = (*before.cohort_rows, cohort(percent, "failed"), exempt(percent))

    assert not decide(replace(before, cohort_rows=rows)).allowed


@given(RECORDS, ANY_COHORT)
def test_a_skip_for_missing_config_clears_nothing_but_a_cohort_of_a_rollout_without_it(
    before: Record, percent: int
) -> None:
    """Where it is the row that turns block into allow, nothing of that cohort had failed."""
    after = replace(before, cohort_rows=(*before.cohort_rows, exempt(percent)))

    if decide(after).allowed and not decide(before).allowed:
        assert before.header.missing_for_probe
        rows = [row for row in before.cohort_rows if row.cohort_percent == percent]
        assert all(row.status != "failed" for row in rows)


@given(RECORDS, st.sampled_from(["aborted", "crashed", None]), st.text(min_size=1))
def test_an_attempt_that_did_not_finish_and_a_file_that_cannot_be_believed_always_block(
    before: Record, outcome: str | None, name: str
) -> None:
    attempts = before.header.model_copy(update={"attempts": (attempt(1, outcome),)})
    odd = decide(replace(before, problems=(Problem(name, "is odd"),)))

    assert not decide(replace(before, header=attempts)).allowed
    assert not odd.allowed
    assert name in [reason.evidence for reason in odd.reasons]


@given(RECORDS, ANY_GATE, ANY_COHORT)
def test_without_a_row_of_every_gate_and_cohort_it_blocks(
    before: Record, name: str, percent: int
) -> None:
    gates = tuple(row for row in before.gate_rows if row.gate != name)
    cohorts = tuple(row for row in before.cohort_rows if row.cohort_percent != percent)

    assert not decide(replace(before, gate_rows=gates)).allowed
    assert not decide(replace(before, cohort_rows=cohorts)).allowed


@given(RECORDS)
def test_allow_means_what_the_contract_says(any_record: Record) -> None:
    """The rule once more, in other words."""
    if decide(any_record).allowed:
        last_gates = {row.gate: row.status for row in any_record.gate_rows}
        last_cohorts = {row.cohort_percent: row for row in any_record.cohort_rows}
        assert {last_gates.get(name) for name in GATES} == {"passed"}
        for row in (last_cohorts[percent] for percent in COHORTS):
            soaked = row.status == "passed" and row.soaked_seconds == 900
            assert soaked or (row.status, row.reason) == ("skipped", MISSING_PROBE_CONFIG)


# -- where cohorts are made live --------------------------------------------------------------


def applied(percent: int, of: int = 1) -> CohortRow:
    return cohort(percent, of=of, live=seen(percent))


def applying(*rows: CohortRow | RollbackRow, **changes: Any) -> Record:
    """A rollout that makes its cohorts live."""
    header = {"apply_command": "x", "live_before": seen(0), "applied_percent": 100, **changes}
    return record(*PASSED_GATES, *rows, **header)


LIVE = (applied(5), applied(100))
BOTH_ANEW = (*LIVE, applied(5, 2), applied(100, 2))
HELD = rolled_back("skipped", "held")

APPLIED_AND_ALLOWED = {
    "everything was seen live": applying(*LIVE),
    "held, and gone on with while still live": applying(*LIVE, HELD),
    "held, then made live": applying(*LIVE, applied(100, 2), HELD),
    "rolled back, then all made live again": applying(*BOTH_ANEW, rolled_back()),
    "a rollback failed, then all were made live": applying(*BOTH_ANEW, rolled_back("failed")),
}

SINCE = "passed, but staging was rolled back since"

APPLIED_AND_BLOCKED = {
    "a pass of which nothing was seen live": (
        applying(applied(5), cohort(100)), ["cohort 100 % passed without having been seen live"],
    ),
    "an earlier pass of which nothing was seen live": (
        applying(cohort(5), applied(100)), ["cohort 5 % passed without having been seen live"],
    ),
    "rolled back after the last row": (
        applying(*LIVE, rolled_back()), [f"cohort 5 % {SINCE}", f"cohort 100 % {SINCE}"],
    ),
    "rolled back, then only the last cohort made live": (
        applying(*LIVE, applied(100, 2), rolled_back()), [f"cohort 5 % {SINCE}"],
    ),
    "restored, and the row of that is lost": (
        applying(*LIVE, live_before=None), [f"cohort 5 % {SINCE}", f"cohort 100 % {SINCE}"],
    ),
    "a rollback that was killed before it had a row": (
        applying(*LIVE, restoring=True), [f"cohort 5 % {SINCE}", f"cohort 100 % {SINCE}"],
    ),
    "left lower than it was, which undoes all the same": (
        applying(*LIVE, rolled_back("skipped", "not_raised")),
        [f"cohort 5 % {SINCE}", f"cohort 100 % {SINCE}"],
    ),
    "a failed rollback after the last row": (
        applying(*LIVE, rolled_back("failed")),
        [f"cohort 5 % {SINCE}", f"cohort 100 % {SINCE}",
         "ROLLBACK FAILED, staging is not as it was: rollback_failed: None"],
    ),
    "a rollback that failed before one that passed": (
        applying(*BOTH_ANEW, rolled_back("failed"), rolled_back(of=2)),
        [f"cohort 5 % {SINCE}", f"cohort 100 % {SINCE}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APPLIED_AND_ALLOWED)
def test_what_is_allowed_where_cohorts_are_made_live(name: str) -> None:
    allowed = APPLIED_AND_ALLOWED[name]

    assert decide(allowed).reasons == ()
    assert not owes_rollback(allowed)


@pytest.mark.parametrize("name", APPLIED_AND_BLOCKED)
def test_what_blocks_where_cohorts_are_made_live(name: str) -> None:
    blocked, texts = APPLIED_AND_BLOCKED[name]

    assert [reason.text for reason in decide(blocked).reasons] == texts


def test_a_rollback_is_owed_only_where_something_is_live() -> None:
    failed = cohort(100, "failed", reason="http_status")

    assert owes_rollback(applying(applied(5), failed))
    assert not owes_rollback(applying(applied(5), failed, live_before=None))
    assert not owes_rollback(applying(*LIVE, attempts=[attempt(1, None)])), "it may yet be allowed"


ROLLBACKS = st.builds(
    rolled_back, STATUSES, st.sampled_from([None, "held", "not_raised"]), of=ATTEMPTS
)
APPLYING = st.builds(
    lambda rows, rollbacks, **changes: applying(*rows, *rollbacks, **changes),
    st.lists(st.builds(applied, ANY_COHORT, ATTEMPTS) | ANY_COHORT_ROW, max_size=6),
    st.lists(ROLLBACKS, max_size=4),
    live_before=st.sampled_from([None, seen(0)]),
    restoring=st.booleans(),
)


@given(APPLYING, ROLLBACKS)
def test_no_row_of_a_rollback_ever_turns_block_into_allow_unless_a_later_attempt_made_it_live(
    before: Record, row: RollbackRow
) -> None:
    after = replace(before, rollback_rows=(*before.rollback_rows, row))

    if decide(after).allowed and not decide(before).allowed:
        assert row.status != "failed"
        last = [one for one in before.cohort_rows if one.cohort_percent == COHORTS[-1]][-1]
        assert all(other.attempt < last.attempt for other in after.rollback_rows)


@given(APPLYING)
def test_allow_means_that_every_cohort_was_seen_live_and_none_was_rolled_back_since(
    any_record: Record,
) -> None:
    if decide(any_record).allowed:
        last = {row.cohort_percent: row for row in any_record.cohort_rows}
        touched = [row for row in any_record.rollback_rows if row.reason != "held"]
        assert any_record.header.live_before is not None
        for row in (last[percent] for percent in COHORTS):
            assert row.live is not None
            assert all(other.attempt < row.attempt for other in touched)
