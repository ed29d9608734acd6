"""The course of a soak: when it looks, whether it goes on after a kill, and what it showed."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from canary_pipeline.model.health import PASSED, judge
from canary_pipeline.model.limits import parse_limits
from canary_pipeline.model.looks import Look, Watch
from canary_pipeline.model.soaks import (
    elapsed_after_kill,
    growths,
    health_lines,
    interval_after,
    last_soak,
    proposed_limits,
)
from canary_pipeline_tests.model.soak_by_hand import (
    FAILED,
    LAG,
    LOST,
    POLLS,
    SERVED,
    WATCH,
    WITHOUT_LIMITS,
    look,
    soak,
)


@pytest.mark.parametrize(
    ("watch", "lost", "moments"),
    [
        (replace(WATCH, soak_seconds=50), (), [0, 15, 30, 45, 50]),
        (replace(WATCH, soak_seconds=62), (15, 30, 45), [0, 15, 30, 45, 58, 62]),
        (replace(WATCH, soak_seconds=90), (15, 30, 45, 58, 60), [0, 15, 30, 45, 58, 60]),
        (replace(WATCH, soak_seconds=90, interval_seconds=30), (30,), [0, 30, 58, 88, 90]),
        (replace(WATCH, soak_seconds=60), (60,), [0, 15, 30, 45, 60, 75]),
        (replace(WATCH, soak_seconds=30), (0,), [0, 15, 30, 45]),
        (replace(WITHOUT_LIMITS, soak_seconds=50), (0, 15, 30), [0, 15, 30, 45, 50]),
    ],
)
def test_when_a_soak_looks(watch: Watch, lost: tuple[float, ...], moments: list[float]) -> None:
    asked = []

    def take(at: float) -> Look:
        asked.append(at)
        return look(1, at, **LOST) if at in lost else look(1, at)

    soak(watch, take)

    assert asked == moments


def test_a_soak_that_waits_begins_with_its_first_good_look() -> None:
    watch = replace(WATCH, soak_seconds=30)

    judged, looks = soak(watch, lambda at: look(1, at, **LOST) if at < 30 else look(1, at))

    numbered = [(one.number, one.elapsed_seconds) for one in looks]
    assert numbered == [(0, 0), (0, 15), (1, 0), (2, 15), (3, 30)]
    assert judged.verdict == PASSED


def test_a_soak_of_a_day_is_bounded_in_looks_and_in_what_is_remembered() -> None:
    watch = replace(WATCH, soak_seconds=86_400, interval_seconds=1)

    judged, looks = soak(watch, lambda at: look(1, at))

    assert judged.verdict == PASSED
    assert len(looks) == 1000 + (86_400 - 999) // 30 + 1
    assert len(judged.seen) == len(judged.first) == 4
    assert [interval_after(count, 15) for count in (999, 1000)] == [15, 30]


@pytest.mark.parametrize(
    ("lost", "away", "elapsed"),
    [
        ((), 60, 90),
        ((), 61, None),
        ((), 0, 30),
        ((), -1, None),
        ((30,), 45, 75),
        ((30,), 46, None),
    ],
)
def test_a_soak_goes_on_after_a_kill_if_its_last_good_look_is_near(
    lost: tuple[int, ...], away: float, elapsed: float | None
) -> None:
    looks = [look(at // 15 + 1, at, **(LOST if at in lost else {})) for at in (0, 15, 30)]
    now = datetime.fromisoformat(looks[-1].at) + timedelta(seconds=away)

    assert elapsed_after_kill(judge(WATCH, looks), now) == elapsed


def test_a_soak_that_has_not_begun_starts_anew_after_a_kill() -> None:
    waiting = look(0, 0, **LOST)

    assert elapsed_after_kill(judge(WATCH, []), datetime.fromisoformat(waiting.at)) is None
    assert elapsed_after_kill(judge(WATCH, [waiting]), datetime.fromisoformat(waiting.at)) is None


def test_the_last_soak_counts() -> None:
    looks = [look(1, 0), look(2, 15), look(1, 0, soak=2)]

    assert last_soak(looks) == looks[2:]
    assert last_soak([]) == []


def test_a_summary_tells_how_close_each_limit_came() -> None:
    limits = "+mirror.failed_total<=9, delivery.max_replay_lag<=500, +delivery.total_polls>=1"
    watch = replace(WATCH, limits=parse_limits(f"{limits}, other<=1"))
    looks = [
        look(1, 0, {FAILED: 5}),
        look(2, 15, {FAILED: 7, LAG: 480}),
        look(3, 30, **LOST),
        look(4, 45, {FAILED: 7}, evaluate=503),
    ]

    assert health_lines(watch, looks) == [
        "4 looks, 2 unanswered",
        "`+mirror.failed_total<=9`: rose by 2 in 15 s",
        "`delivery.max_replay_lag<=500`: at most 480, at 15 s",
        "`+delivery.total_polls>=1`: rose by 45 in 45 s",
        "`other<=1`: never seen",
    ]
    assert health_lines(WITHOUT_LIMITS, looks[:1]) == ["1 look, none unanswered"]


def test_limits_are_proposed_from_the_largest_growth_of_passed_soaks() -> None:
    looks = [look(1, 0), look(2, 15, {LAG: 2}), look(3, 30, **LOST), look(4, 45, {LAG: 9})]
    soaks = [
        {FAILED: 0.0, POLLS: 7.0, LAG: 1.0, "a b": 1.0},
        {FAILED: 2.5001, POLLS: 9.0, "a b": 1.0},
        {FAILED: 1.0, POLLS: 8.0, LAG: 2.0, SERVED: 1e12, "a b": 1.0},
    ]

    limits = proposed_limits(soaks)

    assert growths(looks) == {FAILED: 0, POLLS: 45, SERVED: 90}
    assert list(map(str, limits)) == [f"+{POLLS}<=9", f"+{FAILED}<=2.501"]
    assert parse_limits(",".join(map(str, limits))) == limits
    assert proposed_limits([{SERVED: 1e12}]) == proposed_limits([]) == ()
