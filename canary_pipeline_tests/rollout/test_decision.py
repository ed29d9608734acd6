"""The decision, as a table and as properties."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.model.decision import Reason, decide, owes_rollback
from canary_pipeline.model.rows import (
    MISSING_PROBE_CONFIG,
    Attempt,
    CohortRow,
    GateRow,
    Header,
    LiveRouting,
    PlannedGate,
    RollbackRow,
    Status,
)
from canary_pipeline.store.folder import Problem, Record

GATES = ("one", "two")
COHORTS = (5, 100)


def gate(name: str, status: Status = "passed") -> GateRow:
    return GateRow(gate=name, status=status, attempt=1, run_id="r")


def cohort(percent: int, status: Status = "passed", reason: str | None = None) -> CohortRow:
    return CohortRow(cohort_percent=percent, status=status, reason=reason, attempt=1, run_id="r")


PASSED_GATES = tuple(gate(name) for name in GATES)
PASSED_COHORTS = tuple(cohort(percent) for percent in COHORTS)


def record(
    gates: Sequence[GateRow] = PASSED_GATES,
    cohorts: Sequence[CohortRow] = PASSED_COHORTS,
    *,
    live: bool = True,
    skip_gates: bool = False,
    attempts: Sequence[Attempt] = (),
) -> Record:
    header = Header(
        environment="staging",
        title="Title",
        started_at="2026-02-25T08:00:00.000Z",
        cohorts=list(COHORTS),
        soak_seconds=0,
        skip_gates=skip_gates,
        gates=[PlannedGate(name=name, command="true") for name in GATES],
        missing_for_probe=[] if live else ["auth_token"],
        control_base_url=None,
        runtime_metrics_url=None,
        control_status_url=None,
        gate_timeout_seconds=1,
        http_timeout_seconds=1,
        repo_root="/",
        commit=None,
        dirty=None,
        versions={},
        attempts=list(attempts),
    )
    return Record(header, tuple(gates), tuple(cohorts), (), ())


def exempt(percent: int) -> CohortRow:
    return cohort(percent, "skipped", MISSING_PROBE_CONFIG)


def attempt(outcome: str | None) -> Attempt:
    return Attempt.model_validate(
        {
            "attempt": 1, "run_id": "r", "launched_by": "x", "started_at": "s",
            "gates_to_run": [], "outcome": outcome, "detail": "somehow",
        }
    )  # fmt: skip


ALLOWED = {
    "everything passed": record(),
    "skips for missing probe config": record(cohorts=[exempt(5), exempt(100)], live=False),
    "a failed gate that passed later": record([gate("one", "failed"), gate("one"), gate("two")]),
    "a failed cohort that passed later": record(
        cohorts=[cohort(5, "failed"), cohort(5), cohort(100)]
    ),
    "an attempt under way": record(attempts=[attempt(None)]),
    "an aborted attempt, then a finished one": record(
        attempts=[attempt("aborted"), attempt("finished")]
    ),
}

BLOCKED = {
    "no rows": (record([], []), 4),
    "a gate without a row": (record([gate("one")]), 1),
    "a failed gate": (record([gate("one"), gate("two", "failed")]), 1),
    "a gate that passed and failed later": (
        record([gate("one"), gate("two"), gate("two", "failed")]), 1,
    ),
    "a skipped gate": (record([gate("one"), gate("two", "skipped")]), 1),
    "a dry run": (record([gate("all", "skipped")], skip_gates=True), 1),
    "a dry run whose gates have rows all the same": (record(skip_gates=True), 1),
    "a cohort without a row": (record(cohorts=[cohort(5)]), 1),
    "a failed cohort": (record(cohorts=[cohort(5), cohort(100, "failed")]), 1),
    "a skip for another reason": (
        record(cohorts=[cohort(5), cohort(100, "skipped", "gates_not_passed")]), 1,
    ),
    "a skip for missing config of a rollout that was to probe": (
        record(cohorts=[cohort(5), exempt(100)]), 1,
    ),
    "a skip that would cover up a failure": (
        record(cohorts=[cohort(5, "failed"), exempt(5), exempt(100)], live=False), 1,
    ),
    "an attempt that was aborted": (record(attempts=[attempt("aborted")]), 1),
    "an attempt that crashed": (record(attempts=[attempt("crashed")]), 1),
    "a file that cannot be believed": (replace(record(), problems=(Problem("f", "is odd"),)), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed(name: str) -> None:
    assert decide(ALLOWED[name]).word == "allow"


@pytest.mark.parametrize("name", BLOCKED)
def test_what_blocks_and_for_how_many_reasons(name: str) -> None:
    blocked, reasons = BLOCKED[name]

    decision = decide(blocked)

    assert decision.word == "block"
    assert len(decision.reasons) == reasons


@pytest.mark.parametrize(
    ("attempt_of_row", "texts"),
    [
        (1, ["gate one has no result of attempt 2"]),
        (2, []),
        (3, []),
    ],
)
def test_a_pass_from_before_the_attempt_that_was_to_run_the_gate_again_does_not_count(
    attempt_of_row: int, texts: list[str]
) -> None:
    second = attempt("finished").model_copy(update={"attempt": 2, "gates_to_run": ["one"]})
    row = gate("one").model_copy(update={"attempt": attempt_of_row})

    decision = decide(record([row, gate("two")], attempts=[attempt("finished"), second]))

    assert [reason.text for reason in decision.reasons] == texts


@pytest.mark.parametrize("empty", ["gates", "cohorts"])
def test_a_rollout_of_nothing_is_not_allowed(empty: str) -> None:
    nothing = record([], [])
    header = nothing.header.model_copy(update={empty: []})

    assert not decide(replace(nothing, header=header)).allowed


@pytest.mark.parametrize(
    ("blocked", "text", "evidence"),
    [
        (record([gate("one")]), "gate two has no result", "gate-results.jsonl"),
        (
            record([gate("one"), gate("two").model_copy(update={
                "status": "failed", "detail": "exit code 3", "log_file": "logs/gate-two.log",
            })]),
            "gate two failed: exit code 3", "logs/gate-two.log",
        ),
        (
            record([gate("all", "skipped")], skip_gates=True),
            "gates were skipped (--skip-gates): a dry run", "gate-results.jsonl",
        ),
        (record(cohorts=[cohort(5)]), "cohort 100 % has no result", "cohort-results.jsonl"),
        (
            record(cohorts=[cohort(5), cohort(100, "failed", "http_status").model_copy(update={
                "http_status": 503, "response_file": "cohort-100.json",
            })]),
            "cohort 100 % failed: probe answered 503", "cohort-100.json",
        ),
        (
            record(cohorts=[cohort(5), cohort(100, "failed", "timeout").model_copy(update={
                "error": "no complete answer within 30 s",
            })]),
            "cohort 100 % failed: timeout: no complete answer within 30 s", "cohort-results.jsonl",
        ),
        (
            record(cohorts=[cohort(5), cohort(100, "skipped", "earlier_cohort_failed")]),
            "cohort 100 % skipped: earlier_cohort_failed", "cohort-results.jsonl",
        ),
        (record(attempts=[attempt("aborted")]), "attempt 1 aborted: somehow", "rollout.json"),
        (replace(record(), problems=(Problem("a", "is odd"),)), "a is odd", "a"),
    ],
)  # fmt: skip
def test_a_reason_holds_the_value_seen_and_where_its_evidence_lies(
    blocked: Record, text: str, evidence: str
) -> None:
    assert decide(blocked).reasons == (Reason(text, evidence),)


STATUSES = st.sampled_from(["passed", "failed", "skipped"])
REASONS = st.sampled_from([None, MISSING_PROBE_CONFIG, "gates_not_passed"])
GATE_ROWS = st.lists(st.builds(gate, st.sampled_from([*GATES, "all"]), STATUSES), max_size=8)
COHORT_ROWS = st.lists(st.builds(cohort, st.sampled_from(COHORTS), STATUSES, REASONS), max_size=8)
RECORDS = st.builds(record, GATE_ROWS, COHORT_ROWS, live=st.booleans(), skip_gates=st.booleans())


@given(RECORDS, st.builds(gate, st.sampled_from(GATES), st.sampled_from(["failed", "skipped"])))
def test_a_gate_row_that_did_not_pass_never_turns_block_into_allow(
    before: Record, row: GateRow
) -> None:
    after = replace(before, gate_rows=(*before.gate_rows, row))

    assert not decide(after).allowed or decide(before).allowed
    assert not decide(after).allowed


@given(RECORDS, st.sampled_from(COHORTS))
def test_a_failed_cohort_row_always_blocks(before: Record, percent: int) -> None:
    after = replace(before, cohort_rows=(*before.cohort_rows, cohort(percent, "failed")))

    assert not decide(after).allowed


@given(RECORDS, st.sampled_from(COHORTS))
def test_a_skip_never_covers_up_a_failed_probe(before: Record, percent: int) -> None:
    rows = (*before.cohort_rows, cohort(percent, "failed"), exempt(percent))

    assert not decide(replace(before, cohort_rows=rows)).allowed


NOT_PASSED = st.one_of(
    st.builds(cohort, st.sampled_from(COHORTS), st.just("failed"), REASONS),
    st.builds(
        cohort,
        st.sampled_from(COHORTS),
        st.just("skipped"),
        st.sampled_from([None, "gates_not_passed", "earlier_cohort_failed"]),
    ),
)


@given(RECORDS, NOT_PASSED)
def test_a_cohort_row_that_did_not_pass_always_blocks(before: Record, row: CohortRow) -> None:
    after = replace(before, cohort_rows=(*before.cohort_rows, row))

    assert not decide(after).allowed


@given(RECORDS, st.sampled_from(COHORTS))
def test_a_skip_for_missing_config_clears_nothing_but_a_cohort_of_a_rollout_without_it(
    before: Record, percent: int
) -> None:
    """Where it is the row that turns block into allow, nothing of that cohort had failed."""
    after = replace(before, cohort_rows=(*before.cohort_rows, exempt(percent)))

    if decide(after).allowed and not decide(before).allowed:
        assert before.header.missing_for_probe
        rows = [row for row in before.cohort_rows if row.cohort_percent == percent]
        assert all(row.status != "failed" for row in rows)


@given(RECORDS, st.sampled_from(["aborted", "crashed"]))
def test_an_attempt_that_did_not_finish_always_blocks(before: Record, outcome: str) -> None:
    header = before.header.model_copy(update={"attempts": [attempt(outcome)]})

    assert not decide(replace(before, header=header)).allowed


@given(RECORDS, st.sampled_from(["gate-results.jsonl", "logs/gate-one.log", "cohort-5.json"]))
def test_a_file_that_cannot_be_believed_always_blocks_and_is_named(
    before: Record, name: str
) -> None:
    decision = decide(replace(before, problems=(Problem(name, "is odd"),)))

    assert not decision.allowed
    assert name in [reason.evidence for reason in decision.reasons]


@given(RECORDS, st.data())
def test_a_missing_last_row_never_turns_block_into_allow_by_itself(
    before: Record, data: st.DataObject
) -> None:
    """Removing every row of a gate or a cohort blocks, whatever else is there."""
    name = data.draw(st.sampled_from(GATES))
    percent = data.draw(st.sampled_from(COHORTS))
    gates = tuple(row for row in before.gate_rows if row.gate != name)
    cohorts = tuple(row for row in before.cohort_rows if row.cohort_percent != percent)

    assert not decide(replace(before, gate_rows=gates)).allowed
    assert not decide(replace(before, cohort_rows=cohorts)).allowed


@given(RECORDS)
def test_allow_means_exactly_what_the_contract_says(any_record: Record) -> None:
    """The rule once more, in other words."""
    last_gates = {row.gate: row.status for row in any_record.gate_rows}
    last_cohorts = {row.cohort_percent: row for row in any_record.cohort_rows}
    gates_passed = all(last_gates.get(name) == "passed" for name in GATES)
    cohorts_clear = all(
        percent in last_cohorts
        and (
            last_cohorts[percent].status == "passed"
            or (
                last_cohorts[percent].status == "skipped"
                and last_cohorts[percent].reason == MISSING_PROBE_CONFIG
            )
        )
        for percent in COHORTS
    )

    if decide(any_record).allowed:
        assert gates_passed
        assert cohorts_clear


def seen(percent: int) -> LiveRouting:
    return LiveRouting(
        user_percent=percent, autopilot_percent=percent, shadow_enabled=True,
        shadow_sample_rate=1.0, seen_at="s",
    )  # fmt: skip


def applied(percent: int, attempt: int = 1) -> CohortRow:
    return cohort(percent).model_copy(update={"live": seen(percent), "attempt": attempt})


def rolled_back(status: Status = "passed", attempt: int = 1) -> RollbackRow:
    return RollbackRow(
        status=status, reason=None if status == "passed" else "rollback_failed", cause="c",
        command="x", wanted=seen(0), started_at="s", finished_at="s", attempt=attempt, run_id="r",
    )  # fmt: skip


def applying(
    cohorts: Sequence[CohortRow] = (applied(5), applied(100)),
    rollbacks: Sequence[RollbackRow] = (),
    **header: object,
) -> Record:
    """A rollout that makes its cohorts live."""
    found = record(cohorts=cohorts)
    wanted = {"apply_command": "x", "live_before": seen(0), "applied_percent": 100, **header}
    return replace(
        found, header=found.header.model_copy(update=wanted), rollback_rows=tuple(rollbacks)
    )


APPLIED_AND_ALLOWED = {
    "held, and gone on with while still live": applying(
        rollbacks=[rolled_back("skipped").model_copy(update={"reason": "held"})]
    ),
    "everything was seen live": applying(),
    "held, then made live": applying(
        [applied(5), applied(100, 2)],
        [rolled_back("skipped").model_copy(update={"reason": "held"})],
    ),
    "rolled back, then made live again": applying([applied(5), applied(100, 2)], [rolled_back()]),
    "a rollback failed, then the last cohort was made live": applying(
        [applied(5), applied(100, 2)], [rolled_back("failed")]
    ),
}

SINCE = "cohort 100 % passed, but staging was rolled back since"

APPLIED_AND_BLOCKED = {
    "a pass of which nothing was seen live": (
        applying([applied(5), cohort(100)]), "cohort 100 % passed without having been seen live",
    ),
    "an earlier pass of which nothing was seen live": (
        applying([cohort(5), applied(100)]), "cohort 5 % passed without having been seen live",
    ),
    "rolled back after the last row": (
        applying(rollbacks=[rolled_back()]), SINCE,
    ),
    "restored, and the row of that is lost": (
        applying(live_before=None), SINCE,
    ),
    "a rollback that was killed before it had a row": (
        applying(restoring=True), SINCE,
    ),
    "a failed rollback after the last row": (
        applying(rollbacks=[rolled_back("failed")]),
        "ROLLBACK FAILED, staging is not as it was: rollback_failed: None",
    ),
    "a rollback that failed before one that passed": (
        applying([applied(5), applied(100, 2)], [rolled_back("failed"), rolled_back(attempt=2)]),
        SINCE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APPLIED_AND_ALLOWED)
def test_what_is_allowed_where_cohorts_are_made_live(name: str) -> None:
    allowed = APPLIED_AND_ALLOWED[name]

    assert decide(allowed).reasons == ()
    assert not owes_rollback(allowed)


@pytest.mark.parametrize("name", APPLIED_AND_BLOCKED)
def test_what_blocks_where_cohorts_are_made_live(name: str) -> None:
    blocked, text = APPLIED_AND_BLOCKED[name]

    assert text in [reason.text for reason in decide(blocked).reasons]


@pytest.mark.parametrize(
    ("blocked", "owes"),
    [
        (applying([applied(5), cohort(100, "failed", "http_status")]), True),
        (applying([cohort(5, "failed", "apply_failed")], live_before=None), False),
    ],
)
def test_a_rollback_is_owed_only_where_something_is_live(blocked: Record, owes: bool) -> None:  # noqa: FBT001
    assert owes_rollback(blocked) == owes


ATTEMPTS = st.integers(1, 3)
APPLYING = st.builds(
    applying,
    st.lists(
        st.one_of(
            st.builds(applied, st.sampled_from(COHORTS), ATTEMPTS),
            st.builds(cohort, st.sampled_from(COHORTS), STATUSES, REASONS),
        ),
        max_size=6,
    ),
    st.lists(st.builds(rolled_back, STATUSES, ATTEMPTS), max_size=4),
    live_before=st.sampled_from([None, seen(0)]),
    restoring=st.booleans(),
)


@given(APPLYING, st.builds(rolled_back, STATUSES, ATTEMPTS))
def test_no_row_of_a_rollback_ever_turns_block_into_allow_unless_a_later_attempt_made_it_live(
    before: Record, row: RollbackRow
) -> None:
    after = replace(before, rollback_rows=(*before.rollback_rows, row))

    if decide(after).allowed and not decide(before).allowed:
        last = [one for one in before.cohort_rows if one.cohort_percent == COHORTS[-1]][-1]
        assert all(other.attempt < last.attempt for other in after.rollback_rows)


@given(APPLYING, ATTEMPTS)
def test_a_failed_rollback_never_turns_block_into_allow(before: Record, attempt: int) -> None:
    after = replace(before, rollback_rows=(*before.rollback_rows, rolled_back("failed", attempt)))

    assert decide(before).allowed or not decide(after).allowed


@given(APPLYING)
def test_allow_means_that_the_last_cohort_was_seen_live_and_nothing_was_rolled_back_since(
    any_record: Record,
) -> None:
    if decide(any_record).allowed:
        last = [one for one in any_record.cohort_rows if one.cohort_percent == COHORTS[-1]][-1]
        assert last.live is not None
        assert any_record.header.live_before is not None
        touched = [row for row in any_record.rollback_rows if row.status != "skipped"]
        assert all(row.attempt < last.attempt for row in touched)
