"""Pictures say what happened, in words and bars that can be found in them."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from canary_pipeline.model import rows as model
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.plan import Gate
from canary_pipeline.model.record import Attempt, Header, Record
from canary_pipeline.reports.history import PastRollout
from canary_pipeline.reports.timeline import HIGHEST_INCHES, timeline, timeline_figure
from canary_pipeline.reports.trend import trend, trend_figure

DAY = 86400.0
Bars = dict[str, list[tuple[str, float, float]]]


def at(seconds: float) -> datetime:
    return datetime(2026, 2, 25, 8, 0, tzinfo=UTC) + timedelta(seconds=seconds)


def attempt(start: float, end: float | None, outcome: Any = "finished") -> Attempt:
    return Attempt(
        attempt=2 if start else 1, run_id="r", launched_by="a test", gates_to_run=(),
        started_at=rfc3339(at(start)), ended_at=None if end is None else rfc3339(at(end)),
        outcome=outcome, detail="stopped by SIGTERM",
    )  # fmt: skip


def gate(name: str, start: float, end: float, **more: Any) -> model.GateRow:
    values = {"status": "passed", "started_at": rfc3339(at(start)), "duration_seconds": end - start}
    return model.GateRow(gate=name, attempt=1, run_id="r", **{**values, **more})


def cohort(percent: int, start: float, soak: float, **more: Any) -> model.CohortRow:
    values = {
        "status": "passed", "probed_at": rfc3339(at(start + 3)), "duration_seconds": soak + 3,
        "soak_seconds": soak, "attempt": 1, **more,
    }  # fmt: skip
    return model.CohortRow(cohort_percent=percent, run_id="r", **values)


def record(
    rows: Sequence[model.Row], *attempts: Attempt,
    gates: Sequence[str] = ("one", "two"), cohorts: Sequence[int] = (5, 100),
) -> Record:  # fmt: skip
    header = Header.model_construct(
        environment="staging", started_at=rfc3339(at(0)), attempts=list(attempts),
        cohorts=list(cohorts), skip_gates=False, missing_for_probe=[],
        gates=[Gate(name=name, command="true") for name in gates],
    )  # fmt: skip
    of_gates = tuple(row for row in rows if isinstance(row, model.GateRow))
    of_cohorts = tuple(row for row in rows if isinstance(row, model.CohortRow))
    rollbacks = tuple(row for row in rows if isinstance(row, model.RollbackRow))
    return Record(header, of_gates, of_cohorts, (), (), rollbacks)


GATES = [gate("one", 1, 30), gate("two", 1, 60)]
PASSED = [*GATES, cohort(5, 60, 900), cohort(100, 963, 900)]
ALLOWED = record(PASSED, attempt(0, 1870))
SOAKS = [("soak", 1.05, 15.0), ("soak", 16.1, 15.0)]


def texts(figure: Figure) -> list[str]:
    return [item.get_text() for item in figure.findobj(Text) if isinstance(item, Text)]


def bars(*panels: Axes) -> Bars:
    """By lane, each bar's look, start and width in the panel's unit, from left to right."""
    found: Bars = {}
    for axes in panels:
        lanes = [label.get_text() for label in axes.get_yticklabels()]
        found |= {lane: [] for lane in lanes}
        for drawn in axes.containers:
            for bar in (bar for bar in drawn if isinstance(bar, Rectangle)):
                place = round(float(bar.get_x()), 2), round(float(bar.get_width()), 2)
                lane = lanes[round(bar.get_y() + 0.31)]
                found[lane].append((str(drawn.get_label()), *place))
    return {lane: sorted(own, key=lambda bar: bar[1]) for lane, own in found.items()}


def image(png: bytes) -> Image.Image:
    assert len(png) < 200_000
    return Image.open(io.BytesIO(png)).convert("RGB")


def test_an_allowed_rollout_has_its_gates_side_by_side_and_a_bar_for_each_soak() -> None:
    figure = timeline_figure(ALLOWED, at(1870))

    wanted = {"staging, 2026-02-25 08:00:00 UTC: allow", "31 min 10 s; 1 attempt"}
    assert {*wanted, "02-25 08:00:01  passed in 29.0 s"} <= set(texts(figure))
    gates, cohorts = map(bars, figure.axes)
    assert gates == {"gate one": [("gate passed", 1, 29)], "gate two": [("gate passed", 1, 59)]}
    assert [own[-1] for own in cohorts.values()] == SOAKS
    probes = [("(apply and) probe", 1.0), ("(apply and) probe", 16.05)]
    assert [own[0][:2] for own in cohorts.values()] == probes


def test_a_gate_that_waited_for_another_begins_where_it_began() -> None:
    queued = record([gate("one", 90, 100), gate("two", 0, 90)], attempt(0, 100))

    drawn = bars(timeline_figure(queued, at(100)).axes[0])

    assert drawn == {"gate one": [("gate passed", 90, 10)], "gate two": [("gate passed", 0, 90)]}


def test_what_failed_is_told_apart_and_what_waited_has_no_bar() -> None:
    failed = gate("two", 1, 60, status="failed", detail="exit code 1")
    skipped = {"status": "skipped", "reason": "gates_not_passed", "duration_seconds": 0.0}
    rest = [cohort(percent, 61, 0, **skipped) for percent in (5, 100)]

    figure = timeline_figure(record([GATES[0], failed, *rest], attempt(0, 61)), at(61))

    why = "1 min 1 s; 1 attempt; gate two failed: exit code 1 (and 2 more)"
    assert {"staging, 2026-02-25 08:00:00 UTC: block", why} <= set(texts(figure))
    assert texts(figure).count("skipped: gates_not_passed") == 2
    drawn = [own for own in bars(*figure.axes).values() if own]
    assert drawn == [[("gate passed", 1, 29)], [("failed", 1, 59)]]


def test_a_cohort_that_failed_in_its_soak_ends_there_and_the_rollback_follows() -> None:
    drifted = cohort(5, 60, 900, status="failed", reason="percent_drifted", duration_seconds=110)
    undone = model.RollbackRow.model_construct(
        status="passed", attempt=1, started_at=rfc3339(at(7 * DAY)), duration_seconds=60.0
    )

    figure = timeline_figure(record([*GATES, drifted, undone], attempt(0, 300)), at(300))

    (soak, failed), _, rolled_back = bars(figure.axes[1]).values()
    assert (soak, failed[:2]) == (("soak", 1.05, 1.83), ("failed", 2.88))
    assert rolled_back == [("rolled back", 3.88, 1)]  # by hand, a week later


@pytest.mark.parametrize(
    ("rows", "lane", "bar"),
    [(GATES, "cohort 5 %", (1, 7.33)), (GATES[:1], "gate two", (0, 8.33))],
)
def test_an_abort_marks_what_was_under_way(rows: Any, lane: str, bar: tuple[float, float]) -> None:
    figure = timeline_figure(record(rows, attempt(0, 500, "aborted")), at(500))

    assert bars(*figure.axes)[lane] == [("stopped or under way", *bar)]
    assert any("attempt 1 aborted: stopped by SIGTERM" in text for text in texts(figure))


def test_a_day_between_attempts_is_not_drawn_and_a_resumed_soak_is_as_long_as_it_was() -> None:
    resumed = cohort(5, 60, 900, attempt=2, duration_seconds=DAY + 900)
    rows = [*GATES, resumed, cohort(100, DAY + 960, 900, attempt=2)]
    attempts = attempt(0, 100, "aborted"), attempt(DAY, DAY + 1870)

    figure = timeline_figure(record(rows, *attempts), at(DAY + 1870))

    assert [own[-1][2] for own in bars(figure.axes[1]).values()] == [15, 15]
    assert figure.axes[1].get_xlim()[1] < 33
    assert "24 h 31 min; 2 attempts" in texts(figure)


def test_a_clock_that_was_set_back_a_minute_shortens_nothing() -> None:
    set_back = record([*PASSED[:3], cohort(100, 903, 900)], attempt(0, 1810))

    figure = timeline_figure(set_back, at(1810))

    assert [own[-1] for own in bars(figure.axes[1]).values()] == SOAKS
    assert set_back.duration_seconds == 59 + 2 * 903
    assert "31 min 5 s; 1 attempt" in texts(figure)


@pytest.mark.parametrize("outcome", [None, "aborted", "crashed"])
def test_no_picture_says_allow_before_the_last_attempt_has_finished(outcome: str | None) -> None:
    figure = timeline_figure(record(PASSED, attempt(0, None, outcome)), at(1870))

    assert not any(text.endswith("allow") for text in texts(figure))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", ["$\\frac{", "$$", "日本語 🚀", "\x1b[31m\n\x00", "x" * 5000])
def test_whatever_a_row_says_is_drawn_as_text_of_one_line(text: str) -> None:
    row = gate("one", 1, 30, status="failed", detail=text)
    odd = record([row], attempt(0, 31), gates=["one", text])

    assert image(timeline(odd, at(31))).size[0] == 1100
    assert not any("\n" in said or len(said) > 300 for said in texts(timeline_figure(odd, at(31))))


@pytest.mark.parametrize("moment", ["never", None, "9999-12-31T23:59:59Z", "0001-01-01"])
@pytest.mark.parametrize("seconds", [float("nan"), 1e300])
def test_no_moment_or_length_that_a_file_tells_is_too_odd(moment: str, seconds: float) -> None:
    odd = gate("one", 0, 1, started_at=moment, duration_seconds=seconds)
    rows = [odd, cohort(5, 0, seconds, probed_at=moment)]

    assert image(timeline(record(rows, attempt(0, 31)), at(0))).size[0] == 1100
    assert timeline_figure(record(rows), at(0)).axes  # with no attempt


def test_a_usual_picture_is_small_and_the_users_own_style_changes_nothing() -> None:
    drawn = timeline(ALLOWED, at(1870))

    with mpl.rc_context({"font.size": 30, "savefig.dpi": 300, "axes.facecolor": "black"}):
        assert timeline(ALLOWED, at(1870)) == drawn
    assert len(drawn) < 40_000
    for colour in ((0, 158, 115), (0, 114, 178), (86, 180, 233)):  # gate, probe, soak
        assert np.abs(np.asarray(image(drawn)).astype(int) - colour).max(axis=2).min() < 16


def test_many_lanes_and_very_short_or_long_rollouts_stay_readable() -> None:
    gates = [f"gate-{number}" for number in range(64)]
    rows = [gate(name, 0, 60) for name in gates] + [cohort(it, 60 * it, 9) for it in range(1, 101)]
    many = record(rows, attempt(0, 6100), gates=gates, cohorts=range(1, 101))

    assert image(timeline(many, at(6100))).size == (1100, HIGHEST_INCHES * 100)
    for total, unit in ((0.1, "seconds"), (30 * DAY, "days")):
        figure = timeline_figure(record([cohort(5, 0, total)], attempt(0, total)), at(total))
        assert figure.axes[1].get_xlabel() == f"{unit} of work since the start"


def past(number: int, decision: Any, seconds: float | None = 4500) -> PastRollout:
    moment, folder = at(number * DAY), Path(f"/{number}")
    return PastRollout(folder, started_at=moment, decision=decision, duration_seconds=seconds)


def test_a_trend_tells_decisions_and_durations_from_old_to_new() -> None:
    broken = PastRollout(Path("/broken"), problem="rollout.json cannot be read")
    newest_first = [past(3, None, None), past(2, "block", 7200), past(1, "allow"), past(0, "allow")]

    lines = trend_figure([broken, *newest_first]).axes[0].lines

    assert {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in lines} == {
        "2 allow": [[0, 75], [1, 75]], "1 block": [[2, 120]], "1 without a decision": [[3, 0]],
    }  # fmt: skip
    assert len({line.get_marker() for line in lines}) == 3


def test_one_that_was_resumed_days_later_does_not_flatten_the_rest() -> None:
    usual = [past(number, "allow") for number in range(9)]

    assert trend_figure(usual).axes[0].get_yscale() == "linear"
    assert trend_figure([*usual, past(9, "allow", 7 * DAY)]).axes[0].get_yscale() == "symlog"


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_any_number_of_rollouts_makes_a_picture(count: int) -> None:
    assert image(trend([past(it, "allow") for it in range(count)])).size == (1100, 400)
