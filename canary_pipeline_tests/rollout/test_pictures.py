"""Pictures say what happened, in words and marks that can be found in them."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from canary_pipeline.model.rows import (
    GATES_NOT_PASSED,
    Attempt,
    AttemptOutcome,
    CohortRow,
    GateRow,
    Header,
    PlannedGate,
    Row,
    Status,
)
from canary_pipeline.outside.clock import rfc3339
from canary_pipeline.reports.history import PastRollout
from canary_pipeline.reports.pictures.ink import GREEN, SKY, VERMILLION
from canary_pipeline.reports.pictures.time_axis import CUT_WIDTH, MOST_TICKS, TimeAxis
from canary_pipeline.reports.pictures.timeline import (
    HIGHEST_INCHES,
    WAITING,
    timeline,
    timeline_figure,
)
from canary_pipeline.reports.pictures.trend import trend, trend_figure
from canary_pipeline.store.folder import Record

START = datetime(2026, 2, 25, 8, 0, tzinfo=UTC)
DAY = 86400.0


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def text_at(seconds: float) -> str:
    return rfc3339(at(seconds))


def attempt(
    number: int,
    start: float,
    end: float | None,
    outcome: AttemptOutcome | None = "finished",
    detail: str | None = None,
) -> Attempt:
    return Attempt(
        attempt=number,
        run_id=f"run-{number}",
        launched_by="a test",
        started_at=text_at(start),
        gates_to_run=[],
        ended_at=None if end is None else text_at(end),
        outcome=outcome,
        detail=detail,
    )


def gate(
    name: str,
    start: float,
    end: float,
    status: Status = "passed",
    detail: str | None = None,
) -> GateRow:
    return GateRow(
        gate=name,
        status=status,
        detail=detail,
        started_at=text_at(start),
        finished_at=text_at(end),
        duration_seconds=end - start,
        attempt=1,
        run_id="run-1",
    )


def cohort(percent: int, start: float, soak: float, number: int = 1) -> CohortRow:
    return CohortRow(
        cohort_percent=percent,
        status="passed",
        http_status=200,
        probed_at=text_at(start),
        soak_started_at=text_at(start),
        soak_ended_at=text_at(start + soak),
        soak_seconds=soak,
        attempt=number,
        run_id=f"run-{number}",
    )


def record(
    rows: Sequence[Row],
    *attempts: Attempt,
    gates: Sequence[str] = ("one", "two"),
    cohorts: Sequence[int] = (5, 100),
) -> Record:
    header = Header(
        environment="staging",
        title="Summary",
        started_at=text_at(0),
        cohorts=list(cohorts),
        soak_seconds=900,
        skip_gates=False,
        gates=[PlannedGate(name=name, command="true") for name in gates],
        missing_for_probe=[],
        control_base_url=None,
        runtime_metrics_url=None,
        control_status_url=None,
        gate_timeout_seconds=3600,
        http_timeout_seconds=30,
        repo_root="/",
        commit=None,
        dirty=None,
        versions={},
        attempts=list(attempts),
    )
    return Record(
        header,
        tuple(row for row in rows if isinstance(row, GateRow)),
        tuple(row for row in rows if isinstance(row, CohortRow)),
        (),
        (),
    )


PASSED = [gate("one", 1, 30), gate("two", 1, 60), cohort(5, 61, 900), cohort(100, 962, 900)]


def texts(figure: Figure) -> list[str]:
    found = [item.get_text() for item in figure.findobj(Text) if isinstance(item, Text)]
    return [text for text in found if text]


def bars(figure: Figure, colour: str) -> list[Rectangle]:
    """The bars of this colour in the lanes."""
    return [
        patch
        for patch in figure.axes[0].patches
        if isinstance(patch, Rectangle) and same_color(patch.get_facecolor(), colour)
    ]


def spans(figure: Figure, colour: str) -> list[tuple[int, int]]:
    """Where the bars of this colour begin on the axis, and how long they are."""
    return [(round(bar.get_x()), round(bar.get_width())) for bar in bars(figure, colour)]


def points(line: Line2D) -> list[tuple[float, float]]:
    """The points of a line."""
    return [(x, y) for x, y in np.asarray(line.get_xydata()).tolist()]


def image(png: bytes) -> Image.Image:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return Image.open(io.BytesIO(png))


# -- one rollout ------------------------------------------------------------------------------


def test_an_allowed_rollout_has_a_bar_for_each_gate_and_soak() -> None:
    figure = timeline_figure(record(PASSED, attempt(1, 0, 1870)), at(1870))

    said = texts(figure)
    assert "staging, 2026-02-25 08:00:00 UTC: allow" in said
    assert "31 min 10 s; 1 attempt" in said
    lanes = [text for text in said if text.startswith(("gate ", "cohort ")) and text[-1] in "oe%"]
    assert lanes == ["gate one", "gate two", "cohort 5 %", "cohort 100 %"]
    assert said.count("passed, soaked 15 min 0 s") == 2
    assert "passed in 29.0 s" in said
    assert spans(figure, GREEN) == [(1, 29), (1, 59)]
    assert spans(figure, SKY) == [(61, 900), (962, 900)]
    assert not bars(figure, VERMILLION)
    assert not bars(figure, WAITING)


def test_a_failed_gate_is_hatched_and_marked_and_what_waited_is_grey() -> None:
    rows = [
        gate("one", 1, 30),
        gate("two", 1, 60, "failed", "exit code 1"),
        *[
            CohortRow(
                cohort_percent=percent,
                status="skipped",
                reason=GATES_NOT_PASSED,
                attempt=1,
                run_id="run-1",
            )
            for percent in (5, 100)
        ],
    ]

    figure = timeline_figure(record(rows, attempt(1, 0, 61)), at(61))

    said = texts(figure)
    assert "staging, 2026-02-25 08:00:00 UTC: block" in said
    assert "1 min 1 s; 1 attempt; gate two failed: exit code 1 (and 2 more)" in said
    assert "gate two failed: exit code 1" in said
    assert said.count("skipped: gates_not_passed") == 2
    [failed] = bars(figure, VERMILLION)
    assert failed.get_hatch()
    assert len(bars(figure, WAITING)) == 2


def test_the_first_failure_is_where_it_stopped() -> None:
    rows = [gate("one", 1, 50, "failed", "late"), gate("two", 1, 20, "failed", "early")]

    figure = timeline_figure(record(rows, attempt(1, 0, 51)), at(51))

    [stop] = [line for line in figure.axes[0].lines if same_color(line.get_color(), VERMILLION)]
    assert [x for x, _ in points(stop)] == [20, 20]
    assert "gate two failed: early" in texts(figure)


def test_an_abort_is_marked_with_what_stopped_it() -> None:
    stopped = attempt(1, 0, 500, "aborted", "stopped by SIGTERM at cohort 5")

    figure = timeline_figure(record(PASSED[:2], stopped), at(500))

    said = texts(figure)
    assert "aborted: stopped by SIGTERM at cohort 5" in said
    assert said.count("no result") == 3  # two cohorts, and the legend


def test_a_day_between_attempts_is_cut_out() -> None:
    rows = [*PASSED[:2], cohort(5, DAY, 900, 2), cohort(100, DAY + 901, 900, 2)]
    stopped = attempt(1, 0, 100, "aborted", "stopped")
    resumed = attempt(2, DAY, DAY + 1900)

    figure = timeline_figure(record(rows, stopped, resumed), at(DAY + 1900))

    said = texts(figure)
    assert "attempt 2" in said
    assert "23 h 58 min later" in said
    assert "2 attempts" in next(text for text in said if "attempts" in text)
    assert any(text.endswith("\n2026-02-26") for text in said)
    assert figure.axes[0].get_xlim()[1] == pytest.approx(2000 * (1 + CUT_WIDTH))


@pytest.mark.parametrize("outcome", [None, "aborted", "crashed"])
def test_no_picture_says_allow_before_the_last_attempt_has_finished(
    outcome: AttemptOutcome | None,
) -> None:
    figure = timeline_figure(record(PASSED, attempt(1, 0, None, outcome)), at(1870))

    assert not any(text.endswith("allow") for text in texts(figure))


def test_a_killed_rollout_ends_at_its_last_sign_of_life_and_not_a_week_later() -> None:
    killed = record(PASSED[:3], attempt(1, 0, None, None))

    assert timeline_figure(killed, at(7 * DAY)).axes[0].get_xlim()[1] == 961
    assert timeline_figure(killed, at(1000)).axes[0].get_xlim()[1] == 1000


@pytest.mark.parametrize("text", ["$\\frac{", "$$", "日本語 🚀", "\x1b[31m\n\x00", "x" * 5000])
def test_whatever_a_row_says_is_drawn_as_text(
    text: str, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [gate("one", 1, 30, "failed", text)]

    png = timeline(record(rows, attempt(1, 0, 31), gates=["one", text]), at(31))

    assert image(png).size[0] == 1100
    assert not recwarn.list
    assert capfd.readouterr().err == ""


def test_rows_without_moments_and_a_rollout_without_attempts_are_drawn() -> None:
    rows = [GateRow(gate="one", status="passed", started_at="never", attempt=1, run_id="run-1")]

    assert image(timeline(record(rows), at(0))).size[0] == 1100


def test_the_users_own_style_changes_nothing() -> None:
    drawn = timeline(record(PASSED, attempt(1, 0, 1870)), at(1870))

    with mpl.rc_context({"font.size": 30, "savefig.dpi": 300, "axes.facecolor": "black"}):
        assert timeline(record(PASSED, attempt(1, 0, 1870)), at(1870)) == drawn


def test_a_usual_picture_is_small_and_many_lanes_do_not_make_it_boundless() -> None:
    gates = [f"gate-{number}" for number in range(64)]
    many = record(
        [
            *[gate(name, 0, 60) for name in gates],
            *[cohort(percent, 60 + 10 * percent, 10) for percent in range(1, 101)],
        ],
        attempt(1, 0, 1100),
        gates=gates,
        cohorts=range(1, 101),
    )

    assert len(timeline(record(PASSED, attempt(1, 0, 1870)), at(1870))) < 60_000
    assert image(timeline(many, at(1100))).size[1] == HIGHEST_INCHES * 100


# -- the axis ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (5, ["08:00:00", "08:00:01", "08:00:02", "08:00:03", "08:00:04", "08:00:05"]),
        (4500, ["08:00", "08:10", "08:20", "08:30", "08:40", "08:50", "09:00", "09:10"]),
    ],
)
def test_ticks_are_round_times(seconds: float, labels: list[str]) -> None:
    axis = TimeAxis.of([(at(0), at(seconds))])

    assert [tick.label for tick in axis.ticks()] == labels


@pytest.mark.parametrize("seconds", [0, 0.4, 1, 59, 3600, DAY, 90 * DAY, 9000 * DAY])
def test_ticks_are_never_crowded(seconds: float) -> None:
    ticks = TimeAxis.of([(at(0.2), at(0.2 + seconds))]).ticks()

    assert 1 <= len(ticks) <= MOST_TICKS + 1


def test_the_order_of_time_is_kept_across_a_cut() -> None:
    axis = TimeAxis.of([(at(DAY), at(DAY + 10)), (at(0), at(10)), (at(5), at(20))])

    positions = [
        axis.position(at(seconds)) for seconds in (-5, 0, 10, 20, 1000, DAY, DAY + 10, 2 * DAY)
    ]

    assert positions == sorted(positions)
    assert (positions[0], positions[-1]) == (0, axis.width)
    assert axis.width == pytest.approx(30 * (1 + CUT_WIDTH))


def test_a_short_pause_is_drawn_as_long_as_it_was() -> None:
    axis = TimeAxis.of([(at(0), at(100)), (at(110), at(200))])

    assert axis.width == 200
    assert not axis.cuts


# -- many rollouts ----------------------------------------------------------------------------

Decided = Literal["allow", "block"]


def past(number: int, decision: Decided | None, seconds: float | None = 4500) -> PastRollout:
    return PastRollout(
        Path(f"/rollouts/{number}"),
        started_at=at(number * DAY),
        decision=decision,
        duration_seconds=seconds,
        gate_seconds=(("one", 60.0), ("two", 120.0 + number)),
    )


def test_a_trend_tells_decisions_and_durations_from_old_to_new() -> None:
    newest_first = [past(3, None, None), past(2, "block", 600), past(1, "allow"), past(0, "allow")]

    figure = trend_figure(newest_first)

    assert "4 rollouts: 2 allow, 1 block, 1 without a decision" in texts(figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert points(lines["whole rollout, allow"]) == [(0, 75), (1, 75)]
    assert points(lines["whole rollout, block"]) == [(2, 10)]
    assert points(lines["longest gate"])[0] == (0, 2)
    assert points(lines["longest gate"])[-1] == (3, 123 / 60)
    markers = {lines[f"whole rollout, {word}"].get_marker() for word in ("allow", "block")}
    assert len(markers) == 2


def test_a_trend_tells_how_the_last_ones_went() -> None:
    history = [past(number, "allow" if number < 30 else "block") for number in range(36)]

    said = "36 rollouts: 30 allow, 6 block; the last 10: 4 allow, 6 block"
    assert said in texts(trend_figure(history))


def test_one_that_was_resumed_days_later_does_not_flatten_the_rest() -> None:
    usual = [past(number, "allow") for number in range(9)]

    assert trend_figure(usual).axes[0].get_yscale() == "linear"
    assert trend_figure([*usual, past(9, "allow", 7 * DAY)]).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_any_number_of_rollouts_makes_a_small_picture(count: int) -> None:
    png = trend([past(number, "allow") for number in range(count)])

    assert image(png).size == (1100, 500)
    assert len(png) < 60_000


def test_a_folder_that_cannot_be_read_is_left_out_of_the_trend() -> None:
    broken = PastRollout(Path("/rollouts/broken"), problem="rollout.json cannot be read")

    assert "1 rollout: 1 allow" in texts(trend_figure([broken, past(0, "allow")]))
