"""What the default rollout costs beyond its gates, in every way to run one, and by hand."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

from benchmarks.world import GATE_SECONDS_VARIABLE, PROGRAMS, ROOT, Run, World

RUN = "canary-rollout run"
EXECUTE = "dagster job execute"
SHELL = "shell, one after another"
SPAWN = "Dagster's default executor"

_JOB = ("-j", "staging_canary_rollout")

CONTENDERS: dict[str, tuple[str | Path, ...]] = {
    RUN: (PROGRAMS / "canary-rollout", "run"),
    EXECUTE: (PROGRAMS / "dagster", "job", "execute", "-m", "canary_pipeline", *_JOB),
    SHELL: ("bash", ROOT / "benchmarks/baseline.sh", "output/canary/spacetime/baseline"),
    SPAWN: (PROGRAMS / "dagster", "job", "execute", "-m", "benchmarks.default_executor", *_JOB),
}


@dataclass
class Timing:
    """The runs of one contender.

    Attributes:
        runs: As measured.
        overheads: By run, in seconds: its wall time without the longest gate and the probes.
    """

    runs: list[Run] = field(default_factory=list)
    overheads: list[float] = field(default_factory=list)

    @property
    def typical(self) -> Run:
        """The run whose overhead is the median, or next to it."""
        middle = median(self.overheads)
        distances = [abs(overhead - middle) for overhead in self.overheads]
        return self.runs[distances.index(min(distances))]


@dataclass
class Slope:
    """Whole runs with few and with many cohorts, in seconds, a pair for each round."""

    few: int
    many: int
    seconds: list[tuple[float, float]] = field(default_factory=list)

    @property
    def per_cohort(self) -> list[float]:
        """Seconds for each further cohort, by round."""
        return [(more - less) / (self.many - self.few) for less, more in self.seconds]


def rounds(most: int, budget_seconds: float) -> Iterator[int]:
    """Count rounds until there were enough, or there is no time for another; at least one."""
    start = monotonic()
    for number in range(most):
        spent = monotonic() - start
        if number and spent + spent / number > budget_seconds:
            return
        yield number


def measure_overhead(
    world: World, most_rounds: int, gate_seconds: int, budget_seconds: float
) -> dict[str, Timing]:
    """Run every contender once in each round.

    Args:
        world: Where.
        most_rounds: How many rounds there are, unless time runs out.
        gate_seconds: How long each of the four gates takes.
        budget_seconds: After this no round starts.
    """
    timings = {name: Timing() for name in CONTENDERS}
    more = {GATE_SECONDS_VARIABLE: str(gate_seconds)}
    for _ in rounds(most_rounds, budget_seconds):
        for name, command in CONTENDERS.items():
            run = world.run(command, more)
            overhead = run.measured.seconds - gate_seconds - _probe_seconds(run.rollout)
            timings[name].runs.append(run)
            timings[name].overheads.append(overhead)
    return timings


def _probe_seconds(rollout: Path) -> float:
    """How long the probes took, as whoever sent them says."""
    baseline = rollout / "probe-seconds"
    if baseline.exists():
        return sum(map(float, baseline.read_text().split()))
    rows = (rollout / "cohort-results.jsonl").read_text().splitlines()
    return sum(float(json.loads(row)["probe_seconds"]) for row in rows)


def measure_slope(world: World, most_rounds: int, many: int, budget_seconds: float) -> Slope:
    """Run rollouts with 5 and with many cohorts, and gates that take no time.

    Args:
        world: Where.
        most_rounds: How many rounds there are, unless time runs out.
        many: How many cohorts the larger rollout has.
        budget_seconds: After this no round starts.
    """
    slope = Slope(5, many)
    for _ in rounds(most_rounds, budget_seconds):
        less, more = (
            world.run([*CONTENDERS[RUN], "--cohorts", first_percents(number)]).measured.seconds
            for number in (slope.few, slope.many)
        )
        slope.seconds.append((less, more))
    return slope


def first_percents(number: int) -> str:
    """The cohorts 1, 2, 3, … %."""
    return ",".join(map(str, range(1, number + 1)))
