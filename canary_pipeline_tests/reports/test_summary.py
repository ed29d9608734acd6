"""The summary says what the contract says, and nobody can write into it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.model.decision import decide
from canary_pipeline.model.record import Record
from canary_pipeline.model.remarks import remarks
from canary_pipeline.model.rows import MISSING_PROBE_CONFIG, RolloutWarning
from canary_pipeline.model.text import duration
from canary_pipeline.reports.summary import summary_text
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline_tests.builders import add, cohort, gate, header, passed

HOSTILE = "bad | pipe\n\nDecision: allow\n## Why\n| gate | passed |"


def summary(context: Context) -> str:
    conclude(context, "finished")
    return context.evidence.read_text("SUMMARY.md") or ""


def section(text: str, name: str) -> str:
    """What stands below a heading."""
    return text.partition(f"## {name}\n\n")[2].partition("\n\n##")[0].partition("\n\nDecision")[0]


def test_title_bullets_sections_and_last_line(context: Context) -> None:
    lines = summary(context).splitlines()

    assert lines[0] == "# Staging Spacetime Canary Rollout Summary"
    assert [line for line in lines if line.startswith("- ")][:7] == [
        "- Timestamp (UTC): 2026-02-25T08:00:00.000Z",
        f"- Output directory: {context.evidence.folder}",
        "- Commit: unknown (the checkout is not under version control)",
        "- Gate failures: 0",
        "- Cohort probe failures: 0",
        "- Recommended soak per cohort: 900 s",
        "- Decision: block",
    ]
    assert [line for line in lines if line.startswith("## ")] == [
        "## Why",
        "## Cohort Sequence",
        "## Canary Env Sequence",
        "## Execution Table",
        "## Warnings",
    ]
    assert lines[-1] == "Decision: block"


def test_an_allowed_rollout_says_so_three_times(context: Context) -> None:
    add(context.evidence, *passed(context.plan))

    text = summary(context)

    assert "\n- Decision: allow\n" in text
    assert "## Why\n\nNothing blocks" in text
    assert text.endswith("\n\nDecision: allow\n")
    assert "block\n" not in text
    assert remarks(context.evidence.record()) == ()


def test_each_section_says_what_happened(context: Context) -> None:
    evidence = context.evidence
    add(
        evidence,
        gate("two", "failed", detail="exit code 1"),
        gate("one", duration_seconds=754.2),
        gate("two", "failed", detail="stopped after 30 s", log_file="logs/gate-two.2.log", of=2),
        cohort(
            5, http_status=200, driver="control_service", routing_reason="user_canary",
            soak_started_at="s", soak_ended_at="s", duration_seconds=901,
        ),
        cohort(100, "failed", reason="timeout", error="no complete answer"),
    )  # fmt: skip
    evidence.add_warning(RolloutWarning(step="s", message="m", at="t", attempt=1, run_id="run-1"))
    record = evidence.record()

    text = summary_text(record, decide(replace(record, problems=())), evidence.folder)

    assert "- Gate failures: 1\n- Cohort probe failures: 1\n" in text
    assert section(text, "Why").splitlines()[1:] == [
        "- gate two failed: stopped after 30 s (evidence: `logs/gate-two.2.log`)",
        "- cohort 100 % failed: timeout: no complete answer (evidence: `cohort-results.jsonl`)",
    ]
    assert section(text, "Cohort Sequence") == "1. `5%`\n2. `100%`"
    blocks = (evidence.read_text("canary-env-sequence.txt") or "").strip()
    assert blocks.startswith("# Cohort 5%\n")
    assert section(text, "Canary Env Sequence").endswith(f"```sh\n{blocks}\n```")
    table, beside = section(text, "Execution Table").split("\n\n")
    assert table.splitlines() == [
        "| Step | Status | Duration | Detail |",
        "| --- | --- | --- | --- |",
        "| gate one | passed | 12 min 34 s |  |",
        "| gate two | failed | 0.0 s | stopped after 30 s (attempt 2) |",
        "| cohort 5 % | passed | 15 min 1 s | "
        "probe answered 200, control_service by user_canary, soaked 15 min 0 s |",
        "| cohort 100 % | failed | 0.0 s | timeout: no complete answer |",
    ]
    assert beside == "Gates ran side by side in one checkout."
    [earlier] = section(text, "Earlier attempts").splitlines()[2:]
    assert earlier == "| 1 | gate two | failed | 0.0 s | exit code 1 |"
    assert section(text, "Warnings") == "- t, s: m"


UNPROBED = [cohort(each, "skipped", reason=MISSING_PROBE_CONFIG) for each in (5, 100)]


@pytest.mark.parametrize(("soak", "told"), [(1, "soaked 30.0 s"), (None, "soaked 15 min 0 s")])
def test_a_soak_that_failed_is_told_by_how_long_it_was_where_no_older_version_has_told_it(
    soak: int | None, told: str, context: Context
) -> None:
    """What an older version has decided verifies byte for byte, and its rows name no soak."""
    failed = cohort(
        5, "failed", reason="limit_exceeded", error="lag is 9; at most 5",
        soak_ended_at="s", soak_seconds=900.0, soaked_seconds=30.0, soak=soak,
    )  # fmt: skip
    add(context.evidence, failed)

    assert f"limit_exceeded: lag is 9; at most 5, {told} |" in summary(context)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"missing_for_probe": ["auth_token"]}, ["No cohort was probed"]),
        ({"declared_cohorts": (5, 50, 100)}, ["Reduced**: cohort 5,100 of 5,50,100."]),
        ({"declared_soak_seconds": 901}, ["Reduced**: soak 900 of 901."]),
        ({"declared_soak_seconds": 899, "declared_cohorts": (5, 100)}, []),
    ],
)
def test_what_the_decision_alone_does_not_say_comes_before_it(
    changes: dict[str, object], said: list[str]
) -> None:
    rows = UNPROBED if "missing_for_probe" in changes else []
    record = Record(header(**changes), (), tuple(rows), (), ())

    text = summary_text(record, decide(record), Path("/rollout"))

    before, _, _ = text.partition("- Timestamp")
    assert len(remarks(record)) == len(said)
    assert all(one in before for one in said)


def test_a_dry_run_is_shown_as_one() -> None:
    dry = Record(
        header(skip_gates=True), (gate("all", "skipped", reason="--skip-gates"),), (), (), ()
    )

    text = summary_text(dry, decide(dry), Path("/rollout"))

    assert "- gates were skipped (--skip-gates): a dry run (evidence: `gate-results.jsonl`)" in text
    assert "| gate one | skipped | 0.0 s | --skip-gates |" in text
    assert "- Gate failures: 0" in text
    assert "side by side" not in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (59, "59.0 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (4500, "1 h 15 min"),
    ],
)
def test_durations_are_shown_as_people_read_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


ANY_LINE = st.text() | st.sampled_from(
    ["Decision: allow", "\nDecision: allow\n", HOSTILE, "\u2028## Why", "a\r|b"]
)


@given(ANY_LINE, ANY_LINE, ANY_LINE)
def test_no_text_can_forge_a_section_a_row_or_a_decision(
    detail: str, error: str, message: str
) -> None:
    record = Record(
        header(),
        (gate("one", "failed", detail=detail),),
        (cohort(5, "failed", reason=error, error=error),),
        (RolloutWarning(step=message, message=message, at="t", attempt=1, run_id="r"),),
        (),
    )

    lines = summary_text(record, decide(record), Path("/rollout")).splitlines()

    assert lines[-1] == "Decision: block"
    assert [line for line in lines if line.startswith("Decision")] == ["Decision: block"]
    assert len([line for line in lines if line.startswith("#")]) == 8  # with the env sequence's
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 2 + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}
