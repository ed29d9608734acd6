"""What the rows of a rollout say together."""

from datetime import UTC, datetime

from canary_pipeline.model.plan import Gate
from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import CohortRow, GateRow
from canary_pipeline_tests.builders import cohort, gate, header


def at(hour: int) -> str:
    return f"2026-02-25T{hour:02}:00:00.000Z"


def hour_of(*rows: GateRow | CohortRow, **changes: object) -> int | None:
    """The hour until which these rows say that something was tested."""
    gates = tuple(row for row in rows if isinstance(row, GateRow))
    cohorts = tuple(row for row in rows if isinstance(row, CohortRow))
    found = Record(header(**changes), gates, cohorts, (), ()).tested_until
    return None if found is None else (found - datetime(2026, 2, 25, tzinfo=UTC)).seconds // 3600


def test_the_latest_row_that_counts_says_until_when_was_tested() -> None:
    gates = (gate("one", finished_at=at(8)), gate("two", finished_at=at(9)))
    probed, soaked = cohort(5, "failed", probed_at=at(10)), cohort(5, soak_ended_at=at(11))

    assert hour_of(*gates) == 9
    assert hour_of(*gates, probed) == 10
    assert hour_of(*gates, probed, soaked) == 11
    assert hour_of(*gates, cohort(5, probed_at=at(7))) == 9


def test_a_row_that_a_later_one_replaces_says_nothing_of_it() -> None:
    assert hour_of(gate("one", finished_at=at(9)), gate("one", finished_at=at(8))) == 8


def test_rows_without_a_moment_say_nothing_of_it() -> None:
    assert hour_of() is None
    assert hour_of(gate("one"), gate("two", finished_at="s"), cohort(5, "skipped")) is None


def test_a_gate_that_judges_another_environment_tests_nothing_here() -> None:
    """It runs at every attempt, so that whoever resumes would make any decision a new one."""
    gates = (Gate("one", "true"), Gate("after-staging", "its newest rollout is an allow"))
    rows = (gate("one", finished_at=at(8)), gate("after-staging", finished_at=at(20)))

    assert hour_of(*rows, gates=gates) == 8
