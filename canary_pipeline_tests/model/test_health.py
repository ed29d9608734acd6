"""The judge of a soak: its rules as a table, what can never happen, and how often it errs."""

import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from canary_pipeline.model.health import PASSED, Judgement, judge
from canary_pipeline.model.limits import parse_limits
from canary_pipeline.model.looks import Look, Watch, problem_of
from canary_pipeline_tests.model.soak_by_hand import (
    BAD_PERCENT,
    BAD_PROBE,
    FAILED,
    LAG,
    LOST,
    POLLS,
    SERVED,
    WANTED,
    WATCH,
    WITHOUT_LIMITS,
    look,
    soak,
)

SOAKS = int(os.environ.get("CANARY_SIMULATED_SOAKS", "1000"))
MOST_BLOCKED = 0.003

HIGH = {"numbers": {LAG: 812}}
MISSING = {"numbers": {"mirror.faild_total": 0}}
SHORT = replace(WATCH, soak_seconds=15)
MINUTE = replace(WATCH, soak_seconds=60)
SHADOW_IS_OFF = {"live": WANTED.model_copy(update={"shadow_enabled": False})}
SHADOW_OFF = replace(
    WATCH, wanted=WANTED.model_copy(update={"shadow_enabled": False, "shadow_sample_rate": 0.0})
)
DRIFTED = "live is users 0 %, autopilots 0 %, shadow on at 1; wanted users 25 %, autopilots 25 %"
NO_SUCH_NAME = "no such name mirror.failed_total; near: mirror.faild_total"
RESTARTED = "restarted, or several instances answer"


def without_name(number: int, at: float) -> Look:
    numbers = {"mirror.faild_total": 0.0, LAG: 3.0, POLLS: 1.0}
    return look(number, at).model_copy(update={"numbers": numbers})


def series(changes: dict[int, dict[str, Any]], until: int, step: int = 15) -> list[Look]:
    """Good looks at 0, 15, 30 s, …, but for those that are changed."""
    return [look(at // step + 1, at, **changes.get(at, {})) for at in range(0, until + step, step)]


def each(change: dict[str, Any], *moments: int) -> dict[int, dict[str, Any]]:
    return dict.fromkeys(moments, change)


@pytest.mark.parametrize(
    ("watch", "looks", "reason", "text"),
    [
        (WATCH, series({}, 900), None, "healthy"),
        (WATCH, series(each(LOST, 15, 30, 45), 900), None, "healthy"),
        (WATCH, series(each(LOST, 15, 30, 45, 60), 60), "health_unknown", "no answer for 60 s"),
        (WATCH, series({135: {"numbers": {FAILED: 4}}}, 135), "limit_exceeded",
         "mirror.failed_total rose by 4 in 135 s; at most 0"),
        (WATCH, series({30: {"numbers": {FAILED: 1}, **BAD_PERCENT}}, 30), "limit_exceeded",
         "mirror.failed_total rose by 1 in 30 s; at most 0"),
        (WATCH, series({at: {"numbers": {POLLS: 7}} for at in range(0, 901, 15)}, 900),
         "limit_exceeded", "delivery.total_polls rose by 0 in 900 s; at least 1"),
        (WATCH, series({120: {"numbers": {POLLS: 3}}}, 120), "health_unknown",
         f"delivery.total_polls fell from 105 to 3: {RESTARTED}"),
        (WATCH, series({120: {"numbers": {SERVED: 3}}}, 120), "health_unknown",
         f"mirror.published_total fell from 210 to 3: {RESTARTED}"),
        (WATCH, series({15: HIGH, 900: {}}, 900), None, "healthy"),
        (WATCH, series(each(HIGH, 15, 30, 45, 60), 60), "limit_exceeded",
         "no good look for 60 s: delivery.max_replay_lag is 812; at most 500"),
        (WATCH, series({15: LOST, 30: HIGH, 45: HIGH, 60: HIGH}, 60), "health_unknown",
         "no good look for 60 s: delivery.max_replay_lag is 812; at most 500"),
        (WATCH, series(each({"metrics": 503}, 15, 30, 45, 60), 60), "health_unknown",
         "the metrics answered 503 for 60 s"),
        (WATCH, series(each({"numbers": None}, 15, 30, 45, 60), 60), "health_unknown",
         "the metrics were no JSON object for 60 s"),
        (WATCH, [look(1, 0), *(without_name(n, 15 * n - 15) for n in range(2, 6))],
         "health_unknown", NO_SUCH_NAME),
        (WATCH, series({0: LOST}, 0), "health_unknown",
         "the soak did not start with a good look: no answer"),
        (WATCH, [look(0, at, **LOST) for at in (0, 30, 60)], "health_unknown",
         "no answer for 60 s"),
        (WATCH, [look(0, 58, **LOST), *series({}, 900)], None, "healthy"),
        (WATCH, [look(1, 0), look(2, 61)], "health_unknown", "no good look for 61 s"),
        (WATCH, [look(1, 900)], "health_unknown", "look 1 at 900 s does not follow look 0"),
        (WATCH, [look(1, 0), look(3, 15)], "health_unknown",
         "look 3 at 15 s does not follow look 1"),
        (WATCH, [look(1, 0), look(2, 30), look(3, 15)], "health_unknown",
         "look 3 at 15 s does not follow look 2"),
        (WATCH, [look(1, 0), look(0, 15)], "health_unknown",
         "look 0 at 15 s does not follow look 1"),
        (WATCH, series({30: BAD_PERCENT, 45: BAD_PERCENT}, 45), "percent_drifted",
         f"{DRIFTED}, shadow on at 1, at two looks in a row"),
        (WATCH, series({30: BAD_PERCENT, 60: BAD_PERCENT}, 900), None, "healthy"),
        (WATCH, series({30: BAD_PROBE, 45: {"evaluate": "timeout"}}, 45), "probe_failed_in_soak",
         "evaluate answered timeout, at two looks in a row"),
        (WATCH, series({30: BAD_PROBE, 60: BAD_PROBE}, 900), None, "healthy"),
        (WATCH, series(each({"evaluate": None}, 30, 45), 45), "probe_failed_in_soak",
         "evaluate was not asked, at two looks in a row"),
        (WATCH, [look(0, 0, {LAG: 812, FAILED: 5}), *series({0: {"evaluate": None}}, 900)], None,
         "healthy"),
        (WATCH, series({30: {"metrics": 503, "numbers": {FAILED: 4}}}, 900), None, "healthy"),
        (SHORT, [look(0, 0), look(0, 15)], None, None),
        (SHORT, [look(1, 0), look(2, 15, {POLLS: 1})], None, "healthy"),
        (MINUTE, [look(1, 0), look(2, 30, {POLLS: 0}), look(3, 59, {POLLS: 0}), look(4, 74, **LOST),
                  look(5, 89, {POLLS: 1})],
         "limit_exceeded", "delivery.total_polls rose by 0 in 89 s; at least 1"),
        (SHADOW_OFF, series(each(SHADOW_IS_OFF, *range(0, 901, 15)), 900), None, "healthy"),
        (WATCH, series(each(LOST, 900), 900), None, None),
        (WATCH, series(each(LOST, 900), 915), None, "healthy"),
        (SHORT, series({}, 15), None, "healthy"),
        (SHORT, series(each(LOST, 15), 15), "health_unknown", "no answer for 15 s"),
        (replace(SHORT, interval_seconds=16), series({15: {"evaluate": None}}, 15), None,
         "healthy"),
        (WITHOUT_LIMITS, series(each(LOST, *range(0, 901, 15)), 900), None, "healthy"),
        (WITHOUT_LIMITS, series({30: {"numbers": {FAILED: 4}}, 60: {"numbers": {POLLS: 0}}}, 900),
         None, "healthy"),
        (WITHOUT_LIMITS, series({0: BAD_PERCENT, 15: {"live": None, "routing": 503}}, 15),
         "percent_drifted", "what is live could not be read (503), at two looks in a row"),
        (WITHOUT_LIMITS,
         series(each({"live": None, "routing": "timeout", **BAD_PROBE}, 30, 45), 45),
         "probe_failed_in_soak", "evaluate answered 503, at two looks in a row"),
        (WITHOUT_LIMITS, series({30: BAD_PROBE, 45: BAD_PERCENT}, 900), None, "healthy"),
        (WITHOUT_LIMITS, series({900: BAD_PERCENT}, 900), None, None),
        (WITHOUT_LIMITS, series({900: BAD_PERCENT}, 915), None, "healthy"),
        (WITHOUT_LIMITS, [*series({}, 885), look(61, 960, **BAD_PROBE)], "probe_failed_in_soak",
         "no good look for 75 s: evaluate answered 503"),
        (replace(WITHOUT_LIMITS, soak_seconds=0), [look(1, 0)], None, "healthy"),
        (WITHOUT_LIMITS, [], None, None),
    ],
)  # fmt: skip
def test_the_rules(watch: Watch, looks: list[Look], reason: str | None, text: str | None) -> None:
    verdict = judge(watch, looks).verdict

    assert (verdict.reason if verdict else None) == reason
    assert text is None or (verdict is not None and verdict.text == text)
    assert reason is not None or text is not None or verdict is None


def test_what_is_wrong_at_one_look_warns() -> None:
    judged = judge(WITHOUT_LIMITS, series({15: BAD_PERCENT, 45: BAD_PROBE}, 900))

    assert judged.warnings == (
        f"look 2 at 15 s: {DRIFTED}, shadow on at 1",
        "look 4 at 45 s: evaluate answered 503",
    )
    assert judged.verdict == PASSED


def test_warnings_are_bounded() -> None:
    bad_ever_again = dict.fromkeys(range(15, 900, 30), BAD_PROBE)

    assert len(judge(WITHOUT_LIMITS, series(bad_ever_again, 900)).warnings) == 20


@pytest.mark.parametrize(
    ("status", "changes", "is_problem"),
    [
        ("metrics", {"metrics": 204}, False),
        ("metrics", {"metrics": 302}, True),
        ("metrics", {"metrics": None}, True),
        ("routing", {"routing": None, "live": None}, True),
        ("routing", {"routing": 503}, True),
        ("shadow", {"live": WANTED.model_copy(update={"shadow_enabled": False})}, True),
        ("rate", {"live": WANTED.model_copy(update={"shadow_sample_rate": 0.5})}, True),
        ("evaluate", {"evaluate": 204}, True),
    ],
)
def test_a_look_is_good_only_if_all_is(
    status: str, changes: dict[str, Any], *, is_problem: bool
) -> None:
    assert (problem_of(WATCH, look(2, 15, **changes)) is not None) == is_problem, status


def test_a_row_is_read_back_as_strictly_as_it_was_written() -> None:
    written = look(2, 15)
    values = written.to_json_object()

    assert Look.model_validate_json(json.dumps(values)) == written
    assert "numbers" not in look(2, 15, **LOST).to_json_object()
    for worse in (
        {"elapsed_seconds": -1.0}, {"elapsed_seconds": "15"}, {"numbers": {"a": float("nan")}},
        {"numbers": {"a": True}}, {"numbers": {str(n): 1.0 for n in range(101)}},
        {"metrics": True}, {"soak": 0}, {"evaluate": "e" * 101},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            Look.model_validate({**values, **worse})


# What can never happen

STEPS = (1.0, 15.0, 29.0, 30.0, 31.0, 61.0)
KEEPS_NUMBERS: tuple[dict[str, Any], ...] = (
    BAD_PERCENT, BAD_PROBE, {"live": None, "routing": 503}, {"evaluate": "timeout"},
)  # fmt: skip
LOSES_NUMBERS: tuple[dict[str, Any], ...] = (LOST, {"metrics": 503})
WORSE = (*KEEPS_NUMBERS, *LOSES_NUMBERS, {"lag": True}, {"error": True})

watches = st.builds(
    Watch,
    st.sampled_from([parse_limits(f"+{FAILED}<=2, {LAG}<=500, +{POLLS}>=3"), ()]),
    st.sampled_from([WANTED, None]),
    st.booleans(),
    st.sampled_from([15.0, 60.0, 90.0]),
    st.sampled_from([15.0, 30.0]),
)


@dataclass(frozen=True)
class Step:
    """What happens from one look to the next, and what is bad about that one."""

    seconds: float
    errors: int
    polls: int
    served: int
    bad: dict[str, Any]


def steps_with(served: st.SearchStrategy[int]) -> st.SearchStrategy[list[Step]]:
    bad = st.sampled_from([{}, {}, {}, *KEEPS_NUMBERS, *LOSES_NUMBERS, {"lag": True}])
    seconds = st.sampled_from((1.0, 15.0, 15.0, *STEPS))
    polls, errors = st.integers(0, 2), st.sampled_from([0, 0, 0, 1])
    return st.lists(st.builds(Step, seconds, errors, polls, served, bad), max_size=10)


any_steps = steps_with(st.sampled_from([1, 1, 1, -1]))
rising_steps = steps_with(st.just(1))


def looks_of(steps: Sequence[Step]) -> list[Look]:
    elapsed, errors, polls, served, looks = 0.0, 0, 0, 100, []
    for number, step in enumerate(steps, 1):
        elapsed += step.seconds if number > 1 else 0
        errors += step.errors
        polls += step.polls
        served += step.served
        numbers = {FAILED: float(errors), POLLS: float(polls), SERVED: float(served)}
        looks.append(made_worse(look(number, elapsed, numbers), step.bad))
    return looks


def made_worse(good: Look, how: dict[str, Any]) -> Look:
    if "lag" in how and good.numbers is not None:
        return good.model_copy(update={"numbers": {**good.numbers, LAG: 812.0}})
    if "error" in how and good.numbers is not None:
        errors = good.numbers[FAILED] + 3
        return good.model_copy(update={"numbers": {**good.numbers, FAILED: errors}})
    return good.model_copy(update={k: v for k, v in how.items() if k not in ("lag", "error")})


def passes(watch: Watch, looks: Sequence[Look]) -> bool:
    return judge(watch, looks).verdict == PASSED


@given(watches, any_steps)
def test_judged_look_by_look_is_judged_at_once(watch: Watch, steps: list[Step]) -> None:
    looks, so_far = looks_of(steps), Judgement(watch)
    for count, one in enumerate(looks, 1):
        before, so_far = so_far.verdict, so_far.after(one)

        assert so_far == judge(watch, looks[:count])
        assert before is None or so_far.verdict == before


@given(watches, any_steps)
def test_what_passes_keeps_the_three_sentences(watch: Watch, steps: list[Step]) -> None:
    looks = looks_of(steps)
    count = next((n for n in range(len(looks) + 1) if passes(watch, looks[:n])), None)
    if count is None:
        return
    looks = looks[:count]
    good = [one for one in looks if problem_of(watch, one) is None]

    assert good[-1] is looks[-1]
    assert looks[-1].elapsed_seconds >= watch.soak_seconds
    for one, other in pairwise(looks):
        assert watch.wanted is None or WANTED in (one.live, other.live)
        assert not watch.probes_live or 200 in (one.evaluate, other.evaluate)
    if watch.limits:
        assert good[0] is looks[0]
        assert all(two.elapsed_seconds - one.elapsed_seconds <= 60 for one, two in pairwise(good))
        seen = [one.measured for one in looks if one.measured]
        for name in (FAILED, POLLS, SERVED):
            assert all(earlier[name] <= later[name] for earlier, later in pairwise(seen))
        assert max(numbers[FAILED] for numbers in seen) - seen[0][FAILED] <= 2
        assert seen[-1][POLLS] - seen[0][POLLS] >= 3


@given(watches, any_steps, st.integers(0, 9), st.sampled_from(WORSE))
def test_a_look_made_worse_never_turns_block_into_pass(
    watch: Watch, steps: list[Step], place: int, how: dict[str, Any]
) -> None:
    looks = looks_of(steps)
    falls = any(step.served < 0 for step in steps)
    if place >= len(looks) or (falls and how in LOSES_NUMBERS):
        return  # an answer that is lost is not worse than one that shows a fall
    worse = [*looks]
    worse[place] = made_worse(looks[place], how)

    assert passes(watch, looks) or not passes(watch, worse)


@given(watches, any_steps, st.integers(0, 10), st.sampled_from([*KEEPS_NUMBERS, *LOSES_NUMBERS]))
def test_one_more_bad_look_never_turns_block_into_pass(
    watch: Watch, steps: list[Step], place: int, how: dict[str, Any]
) -> None:
    looks = looks_of(steps)
    if not 0 < place <= len(looks):
        return
    later = [one.model_copy(update={"number": one.number + 1}) for one in looks[place:]]
    more = made_worse(looks[place - 1].model_copy(update={"number": place + 1}), how)
    waiting = more.model_copy(update={"number": 0, "elapsed_seconds": 0.0})

    assert passes(watch, looks) or not passes(watch, [*looks[:place], more, *later])
    assert passes(watch, looks) or not passes(watch, [waiting, *looks])


@given(any_steps, st.sampled_from([15.0, 60.0, 90.0]))
def test_a_seen_fall_never_passes(steps: list[Step], seconds: float) -> None:
    looks, watch = looks_of(steps), replace(WATCH, soak_seconds=seconds)
    for count in range(2, len(looks) + 1):
        seen = [one.measured[SERVED] for one in looks[:count] if one.measured]
        if any(later < earlier for earlier, later in pairwise(seen)):
            assert not passes(watch, looks[:count]) or passes(watch, looks[: count - 1])


# How often it errs, and how soon it tells


class Traffic:
    """Steady traffic with a fault every 100 s or so, seen by looks of which some are lost."""

    def __init__(self, seed: int, *, losses: float = 0, spikes: float = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation
        self._losses, self._spikes = losses, spikes
        self._errors, self._next_error = 0, self._random.expovariate(0.01)

    def take(self, at: float) -> Look:
        while self._next_error <= at:
            self._errors += 1
            self._next_error += self._random.expovariate(0.01)
        is_lost = self._random.random() < self._losses
        lag = 812.0 if self._random.random() < self._spikes else 3.0
        return look(1, at, **LOST) if is_lost else look(1, at, {FAILED: self._errors, LAG: lag})


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("losses", "spikes"), [(0, 0), (0.05, 0), (0.05, 0.01)])
def test_a_healthy_soak_is_hardly_ever_blocked(losses: float, spikes: float) -> None:
    watch = replace(WATCH, limits=parse_limits(f"+{FAILED}<=19, {LAG}<=500, +{POLLS}>=1"))
    blocked = 0
    for seed in range(SOAKS):
        judged, _ = soak(watch, Traffic(seed, losses=losses, spikes=spikes).take, late=0.05)
        blocked += judged.verdict != PASSED

    assert blocked <= MOST_BLOCKED * SOAKS


@given(st.floats(0.001, 899), st.sampled_from([1.0, 15.0, 30.0]))
def test_the_first_error_is_told_within_an_interval(error_at: float, interval: float) -> None:
    watch = replace(WATCH, interval_seconds=interval)
    judged, looks = soak(watch, lambda at: look(1, at, {FAILED: float(at >= error_at)}))

    assert judged.verdict is not None
    assert judged.verdict.reason == "limit_exceeded"
    assert looks[-1].elapsed_seconds < error_at + interval


def test_a_look_costs_little_however_many_came_before() -> None:
    numbers = {f"a.name.of.usual.length.{number}_total": 1.0 for number in range(96)}
    looks = [look(n + 1, 15 * n, numbers) for n in range(1000)]
    began = time.process_time()

    judge(replace(WATCH, soak_seconds=1e6), looks)

    assert time.process_time() - began < 1000 * 0.010
