"""Writes what was measured as a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.growth import Growth
from benchmarks.loading import DAGSTER, DEFINITIONS, HELP
from benchmarks.overhead import EXECUTE, RUN, SHELL, SPAWN, Slope, Timing
from benchmarks.spent import Phase, StepTimes

MOST_OVERHEAD = 6.0
MOST_DIFFERENCE = 1.1
MOST_PER_COHORT = 0.25
MOST_MEMORY = 300
MOST_IMPORT = 1.3
MOST_HELP = 0.3

PAGE = """\
# How fast it is

`make bench` measured this and wrote this page: {length}.

The contenders take turns within each round, so that whatever else the machine does hits all of
them alike. Times are seconds of wall clock.

{machine}

## What a rollout costs

The default plan without soaks: four gates of {gate_seconds} s, five cohorts with live probes, 24
snapshots, all asked of a server on loopback. Each run is a fresh process with a Dagster instance
that is ready and has no history. *Overhead* is the whole process without the longest gate and
without the probes.

{overhead}

{overhead_goals}

- *{shell}* is [a few lines of shell](../benchmarks/baseline.sh) that do the same work and stop
  at the first error. They write no rows, no decision and no summary, cannot be resumed, and wait
  for the gates in turn.
- *{spawn}* is the same graph with as many steps at once, each in a new
  process instead of one forked from a server that has imported everything.

## What a further cohort costs

`canary-rollout run` with gates that take no time, with {few} cohorts and with {many}.

{slope}

{slope_goals}

## Where the time goes

The run of `{run}` above whose overhead is the median, as Dagster's event log and
the evidence folder tell it.

{phases}

Each step, in the order in which they were asked for. *Gap* is since the previous step ended,
*process* until the step's process runs, *preparation* until its body begins, *record* from the
body's end until the log holds its outputs, checks and assets.

{steps}

What is left of a cohort's step is a process that is forked and opens Dagster's storage (for which
Alembic reads its revisions each time), and some ten rows in the event log. One process for all
cohorts would save most of it, and take from people the step that they stop at, go on from and see
in the timeline. `dagster job execute` costs more than `canary-rollout run` because it imports
everything twice in a row, once for itself and once in the server that steps are forked from; our
own command starts that server first. The `summary` step spends most of its time on importing the
plotting library, after the decision is written.

## When there is much of something

One run each. *Memory* is the most that any one process of the run held: *resident* as the kernel
keeps its peak, where pages that a forked process shares with its siblings count in full, and
*proportional* as sampled five times a second, where they are divided.

{growth}

{growth_goals}

## Loading

Fresh interpreters, everything in the disk's cache.

{loading}

{loading_goals}
"""


@dataclass(frozen=True)
class Results:
    """All that was measured."""

    quick: bool
    gate_seconds: int
    machine: Mapping[str, str]
    overhead: Mapping[str, Timing]
    slope: Slope
    phases: Sequence[Phase]
    steps: Sequence[StepTimes]
    growth: Sequence[Growth]
    loading: Mapping[str, Sequence[float]]


def page(results: Results) -> str:
    """The whole page, in Markdown."""
    rounds = len(results.overhead[RUN].runs)
    length = f"{rounds} round{'s' if rounds > 1 else ''}"
    return PAGE.format(
        length=f"{length}, a quick look that says little" if results.quick else length,
        machine=_table(("machine", ""), results.machine.items()),
        gate_seconds=results.gate_seconds,
        overhead=_overhead(results.overhead),
        overhead_goals=_overhead_goals(results.overhead),
        shell=SHELL,
        spawn=SPAWN,
        few=results.slope.few,
        many=results.slope.many,
        slope=_slope(results.slope),
        slope_goals=_goal(
            "a further cohort", median(results.slope.per_cohort), MOST_PER_COHORT, "s"
        ),
        run=RUN,
        phases=_phases(results.phases),
        steps=_steps(results.steps),
        growth=_growth(results.growth),
        growth_goals=_growth_goals(results.growth),
        loading=_loading(results.loading),
        loading_goals=_loading_goals(results.loading),
    )


def _overhead(timings: Mapping[str, Timing]) -> str:
    reference = median(timings[RUN].overheads)
    rows = [
        (
            name,
            f"{median(run.measured.seconds for run in timing.runs):.2f}",
            *_spread(timing.overheads),
            f"{median(timing.overheads) / reference:.2f}",
        )
        for name, timing in timings.items()
    ]
    heads = ("", "whole process", "overhead, median", "min", "max", "ratio", )  # fmt: skip
    return _table(heads, rows)


def _overhead_goals(timings: Mapping[str, Timing]) -> str:
    middle = {name: median(timing.overheads) for name, timing in timings.items()}
    return "\n".join(
        (
            _goal(f"overhead of `{RUN}`", middle[RUN], MOST_OVERHEAD, "s"),
            _goal(
                f"`{EXECUTE}` against it", middle[EXECUTE] / middle[RUN], MOST_DIFFERENCE, "times"
            ),
        )
    )


def _slope(slope: Slope) -> str:
    few, many = zip(*slope.seconds, strict=True)
    rows = [
        (f"{slope.few} cohorts", *_spread(few)),
        (f"{slope.many} cohorts", *_spread(many)),
        ("each further cohort", *_spread(slope.per_cohort)),
    ]
    return _table(("", "median", "min", "max"), rows)


def _phases(phases: Sequence[Phase]) -> str:
    whole = phases[-1].end
    rows = [
        (phase.name, f"{phase.seconds:.2f}", f"{phase.seconds / whole:.0%}", f"{phase.end:.2f}")
        for phase in phases
    ]
    return _table(("", "seconds", "share", "ended at"), rows)


def _steps(steps: Sequence[StepTimes]) -> str:
    rows = [
        (
            f"`{step.step.rpartition('.')[2]}`",
            *(
                f"{seconds:.2f}"
                for seconds in (
                    step.gap, step.process, step.preparation, step.body, step.record, step.total,
                )
            ),
        )
        for step in steps
    ]  # fmt: skip
    heads = ("step", "gap", "process", "preparation", "body", "record", "all")
    return _table(heads, rows)


def _growth(growth: Iterable[Growth]) -> str:
    rows = [
        (
            item.name,
            f"{item.seconds:.2f}",
            f"{item.memory.resident:.0f}",
            f"{item.memory.proportional:.0f}",
            item.memory.processes,
        )
        for item in growth
    ]
    heads = ("", "whole process", "resident, MB", "proportional, MB", "processes at once")
    return _table(heads, rows)


def _growth_goals(growth: Iterable[Growth]) -> str:
    most = max(item.memory.resident for item in growth)
    return _goal("resident memory of any process", most, MOST_MEMORY, "MB")


def _loading(loading: Mapping[str, Sequence[float]]) -> str:
    reference = median(loading[DAGSTER])
    rows = [
        (f"`{name}`", *_spread(seconds), f"{median(seconds) / reference:.2f}")
        for name, seconds in loading.items()
    ]
    return _table(("", "median", "min", "max", "ratio"), rows)


def _loading_goals(loading: Mapping[str, Sequence[float]]) -> str:
    ratio = median(loading[DEFINITIONS]) / median(loading[DAGSTER])
    return "\n".join(
        (
            _goal("the definitions against Dagster alone", ratio, MOST_IMPORT, "times"),
            _goal(f"`{HELP}`", median(loading[HELP]), MOST_HELP, "s"),
        )
    )


def _goal(what: str, value: float, most: float, unit: str) -> str:
    said = "met" if value <= most else "**not met**"
    return f"- Goal: {what} at most {most:g} {unit}. Seen: {value:.3g} {unit}, {said}."


def _spread(seconds: Sequence[float]) -> tuple[str, str, str]:
    return f"{median(seconds):.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
