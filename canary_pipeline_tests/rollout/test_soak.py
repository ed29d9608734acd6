"""A watched soak by a clock that tests move: its looks, how it goes on, and what it costs."""

import gc
import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from canary_pipeline.model.health import Judgement
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.watching import watch_of
from canary_pipeline.outside.answers import Answer, Failure
from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.outside.endpoints import Endpoints
from canary_pipeline.outside.token import FixedToken
from canary_pipeline.rollout.checks.look import take_look
from canary_pipeline.rollout.cohort import run_cohort
from canary_pipeline.rollout.context import Cohort, Context
from canary_pipeline_tests.builders import add, gate
from canary_pipeline_tests.conftest import TOKEN, rows
from canary_pipeline_tests.fake_staging import FakeStaging, never, send
from canary_pipeline_tests.rollout.conftest import FakeClock, asking, next_attempt, planned

LIMITS = ("+polls_total<=100000", "+polls_total>=1")


class Interrupted(BaseException):
    pass


@pytest.fixture
def context(context: Context, staging: FakeStaging, clock: FakeClock) -> Context:
    """A rollout whose gates passed, with limits on metrics that grow by the fake clock."""
    add(context.evidence, gate("one"), gate("two"))
    staging.snapshots["/m"] = lambda handler: send(
        handler, 200, {"polls_total": clock.wall.timestamp()}
    )
    asked = asking(context, staging, "/m")
    changes = {"runtime_metrics_url": f"{staging.url}/m", "limits": LIMITS}
    context.evidence.update_header(lambda header: header.model_copy(update=changes))
    return planned(asked, **changes)


def looks(context: Context) -> list[dict[str, Any]]:
    return rows(context.evidence.folder, "health-5.jsonl")


def interrupt_after(seconds: float, context: Context, clock: FakeClock) -> None:
    """Kill the cohort so long after it began; whoever goes on has a clock of another start."""

    def check() -> None:
        if clock.seconds >= seconds:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_cohort(5, replace(context, check_stop=check))
    clock.slept.clear()
    clock.seconds = 0.0  # of another process


def test_a_soak_looks_at_its_beginning_every_interval_and_at_its_end(
    context: Context, staging: FakeStaging
) -> None:
    row = run_cohort(5, planned(context, soak_seconds=40))

    assert [look["elapsed_seconds"] for look in looks(context)] == [0, 15, 30, 40]
    assert staging.probed == [5] * 4, "the probe is the first evaluate"
    assert (row.status, row.soaked_seconds) == ("passed", 40)
    assert row.health_sha256 == context.evidence.sha256("health-5.jsonl")


@pytest.mark.parametrize(
    ("away", "soaks", "slept"),
    [(0, {1}, 597), (50, {1}, 547), (100, {1, 2}, 900), (-5, {1, 2}, 900)],
)
def test_with_limits_a_soak_goes_on_only_if_its_last_good_look_is_near(
    away: float, soaks: set[int], slept: float, context: Context, clock: FakeClock
) -> None:
    interrupt_after(303, context, clock)
    clock.wall += timedelta(seconds=away)
    resumed_at, said = rfc3339(clock.wall), list[str]()

    row = run_cohort(5, replace(next_attempt(context), say=said.append))

    assert row.status == "passed"
    anew = "cohort 5: it went unwatched for too long; the soak starts anew"
    assert (anew in said) == (2 in soaks)
    assert {look["soak"] for look in looks(context)} == soaks
    assert sum(clock.slept) == pytest.approx(slept, abs=0.1)
    assert row.soaked_seconds == pytest.approx(900)
    assert (row.soak_started_at == resumed_at) == (2 in soaks)
    assert context.evidence.verified_record().problems == ()


def pass_the_soak(context: Context, _staging: FakeStaging, _clock: FakeClock) -> None:
    assert run_cohort(5, context).status == "passed"


def fail_the_soak(context: Context, staging: FakeStaging, _clock: FakeClock) -> None:
    healthy = staging.snapshots["/m"]
    staging.snapshots["/m"] = lambda handler: send(handler, 200, {"polls_total": 1})
    assert run_cohort(5, context).reason == "limit_exceeded"
    staging.snapshots["/m"] = healthy


def stop_the_soak(context: Context, _staging: FakeStaging, clock: FakeClock) -> None:
    interrupt_after(600, context, clock)


@pytest.mark.parametrize("earlier", [pass_the_soak, fail_the_soak, stop_the_soak])
def test_a_soak_that_was_killed_before_its_first_look_is_not_credited_with_an_earlier_one(
    earlier: Callable[[Context, FakeStaging, FakeClock], None],
    context: Context,
    clock: FakeClock,
    staging: FakeStaging,
) -> None:
    earlier(context, staging, clock)
    second = next_attempt(context)
    context.evidence.update_header(lambda header: header.with_last_attempt(anew=True))
    add(context.evidence, gate("one", of=2), gate("two", of=2))
    kill_before_the_first_look(second)
    clock.slept.clear()

    row = run_cohort(5, next_attempt(context, 3))

    assert row.status == "passed"
    assert sum(clock.slept) == pytest.approx(900)
    assert row.soaked_seconds == pytest.approx(900)
    assert {look["soak"] for look in looks(context) if look["attempt"] == 3} == {2}
    assert context.evidence.verified_record().problems == ()


def kill_before_the_first_look(context: Context) -> None:
    """Kill the cohort once it has noted that it soaks."""

    def check() -> None:
        state = context.evidence.in_flight("cohort 5")
        if state is not None and (state.phase, state.attempt) == ("soak", context.attempt):
            raise Interrupted

    with pytest.raises(Interrupted):
        run_cohort(5, replace(context, check_stop=check))


@pytest.mark.parametrize(
    ("away", "soak", "anew"),
    [(10, None, False), (-5000, None, True), (-5000, 2, False)],
    ids=["begun after its looks", "at another commit", "of another number"],
)
def test_a_pass_that_somehow_was_credited_with_an_earlier_soak_does_not_hold(
    away: float, soak: int | None, context: Context, clock: FakeClock, *, anew: bool
) -> None:
    """As an older version could; the clock may have been set back since."""
    evidence, first = context.evidence, run_cohort(5, context)
    assert (first.soak, evidence.verified_record().problems) == (1, ())
    second = next_attempt(context)
    evidence.update_header(lambda header: header.with_last_attempt(anew=anew))
    clock.wall += timedelta(seconds=away)
    begun = {"soak_started_at": rfc3339(clock.wall), "soak": soak}

    add(evidence, first.model_copy(update={**begun, "attempt": 2, "run_id": second.run_id}))

    [problem] = evidence.verified_record().problems
    assert (problem.file, problem.message) == (
        "health-5.jsonl", "holds another soak, and its cohort passed",
    )  # fmt: skip


def test_a_soak_that_was_interrupted_again_does_not_make_the_row_before_look_edited(
    context: Context, clock: FakeClock, staging: FakeStaging
) -> None:
    staging.snapshots["/m"] = lambda handler: send(handler, 200, {"polls_total": 1})
    assert run_cohort(5, context).reason == "limit_exceeded"

    clock.seconds = 0.0
    interrupt_after(100, next_attempt(context), clock)

    assert looks(context)[-1]["attempt"] == 2
    assert context.evidence.verified_record().problems == ()


def test_metrics_that_never_answer_do_not_keep_a_soak_from_its_looks(
    context: Context, staging: FakeStaging
) -> None:
    staging.snapshots["/m"] = never
    endpoints = Endpoints(staging.url, f"{staging.url}/m")
    patient = planned(context, watch_seconds=1)
    patient = replace(patient, control=ControlService(endpoints, FixedToken(TOKEN), 60))
    watch = watch_of(patient.plan, 5)
    assert watch is not None

    began = time.monotonic()
    look = take_look(Cohort(5, patient), Judgement(watch), 1, 0.0)

    assert (look.metrics, look.numbers) == ("timeout", None)
    assert time.monotonic() - began < 30


def test_metrics_without_end_are_no_object(context: Context, staging: FakeStaging) -> None:
    staging.snapshots["/m"] = lambda handler: send(handler, 200, {"a": "x" * 2**20, "polls": 1})
    watch = watch_of(context.plan, 5)
    assert watch is not None

    look = take_look(Cohort(5, context), Judgement(watch), 1, 0.0)

    assert (look.metrics, look.numbers) == (200, None)


class Answering(ControlService):
    """A staging that answers at once, so that what a look costs is not what asking costs."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(Endpoints(), None, 1)
        self.clock = clock
        self.asked = 0
        self.memory: list[int] = []

    def heeding(self, _check_stop: Callable[[], None]) -> ControlService:
        return self

    def within(self, _seconds: float) -> ControlService:
        self.asked += 1
        if self.asked % 300 == 0 and tracemalloc.is_tracing():
            gc.collect()
            self.memory.append(tracemalloc.get_traced_memory()[0])
        return self

    def metrics(self) -> Answer | Failure | None:
        numbers = {f"a.name.of.usual.length.{n}_total": self.clock.seconds for n in range(40)}
        body = {"polls_total": self.clock.seconds, **numbers}
        return Answer(200, json.dumps(body).encode(), complete=True)

    def evaluate(self, _payload: dict[str, str]) -> Answer | Failure:
        return Answer(200, b"{}", complete=True)


def test_a_look_costs_little(context: Context, clock: FakeClock) -> None:
    fast = replace(planned(context, soak_seconds=3000), control=Answering(clock))
    began = time.process_time()

    run_cohort(5, fast)

    count = len(looks(context))
    assert count == 201
    print("CPU", (time.process_time() - began) / count * 1000)
    assert time.process_time() - began < count * 0.020, "10 ms a look on a machine that is quiet"


@pytest.mark.prove
def test_the_memory_of_a_soak_of_a_day_is_flat(
    context: Context, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_UP_SECONDS", "NOTE_SECONDS"):  # twenty thousand notes take minutes
        monkeypatch.setattr(f"canary_pipeline.rollout.soak.{name}", 15)
    monkeypatch.setattr("os.fsync", lambda _: None)
    clock.while_asleep = clock.slept.clear
    staging = Answering(clock)
    tracemalloc.start()
    try:
        row = run_cohort(5, replace(planned(context, soak_seconds=86_400), control=staging))
    finally:
        tracemalloc.stop()

    assert row.status == "passed"
    elapsed = [look["elapsed_seconds"] for look in looks(context)]
    assert len(elapsed) == 1000 + (86_400 - 999 * 15) // 30 + 1
    assert (elapsed[999], elapsed[1000], elapsed[-1]) == (14_985, 15_015, 86_400)
    assert max(staging.memory) - staging.memory[0] < 100_000, "bytes"
