"""The contenders, who take turns in rounds: what else the machine does hits all of them alike."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import click

from benchmarks.measured import Measured, RunLateError
from benchmarks.world import GATE_SECONDS, PROGRAMS, ROOT, World

UNIT = "import dagster"
RUN = "canary-rollout run"
EXECUTE = "dagster job execute"
CORE = "the core alone"
SHELL = "shell, one after another"
SPAWN = "Dagster's default executor"
MORE_COHORTS = "canary-rollout run, with more cohorts"
WATCHED = "canary-rollout run, watched"

DEFAULT_COHORTS, MANY_COHORTS = 5, 25

_RUN = (PROGRAMS / "canary-rollout", "run")
_EXECUTE = (PROGRAMS / "dagster", "job", "execute", "-j", "staging_canary_rollout", "-m")
_PERCENTS = ",".join(map(str, range(1, MANY_COHORTS + 1)))

_EVERY_ROUND: dict[str, tuple[str | Path, ...]] = {
    UNIT: (PROGRAMS / "python", "-c", UNIT),
    RUN: _RUN,
    EXECUTE: (*_EXECUTE, "canary_pipeline"),
    MORE_COHORTS: (*_RUN, "--cohorts", _PERCENTS),
    CORE: (PROGRAMS / "python", "-m", "canary_pipeline_tests.core_alone", "run"),
    SHELL: ("bash", ROOT / "benchmarks/baseline.sh", "output/canary/spacetime/baseline"),
}
_SPAWN = (*_EXECUTE, "benchmarks.default_executor")

Round = dict[str, Measured]


def measure_rounds(world: World, most: int) -> list[Round]:
    """Run every contender once a round; what takes long, once.

    Args:
        world: Where.
        most: How many rounds there are, unless another would not end in time; at least one.
    """
    once = _measure_once(world)
    rounds: list[Round] = []
    longest = 0.0
    while len(rounds) < most and (not rounds or world.seconds_left > 1.2 * longest):
        start = monotonic()
        rounds.append({name: world.run(command) for name, command in _EVERY_ROUND.items()})
        longest = max(longest, monotonic() - start)
        click.echo(f"round {len(rounds)} is measured", err=True)
    rounds[0] |= once
    return rounds


def _measure_once(world: World) -> Round:
    once = {WATCHED: world.run(_RUN, watch=True)}
    try:
        once[SPAWN] = world.run(_SPAWN, limit_seconds=world.seconds_left / 2)
    except RunLateError as error:
        click.echo(f"left out: {error}", err=True)
    return once


def cpu_ratios(rounds: Sequence[Round], name: str, against: str = UNIT) -> list[float]:
    """CPU of a contender against another's of the same round."""
    return [it[name].cpu / it[against].cpu for it in rounds if name in it]


def wall_ratios(rounds: Sequence[Round], name: str, against: str = UNIT) -> list[float]:
    """The same of wall time beyond the longest gate."""
    return [_beyond(it, name) / _beyond(it, against) for it in rounds if name in it]


def cohort_ratios(rounds: Sequence[Round]) -> tuple[list[float], list[float]]:
    """What each further cohort costs against `import dagster`: CPU, and wall time."""
    more = MANY_COHORTS - DEFAULT_COHORTS
    return (
        [(it[MORE_COHORTS].cpu - it[RUN].cpu) / more / it[UNIT].cpu for it in rounds],
        [(it[MORE_COHORTS].wall - it[RUN].wall) / more / it[UNIT].wall for it in rounds],
    )


def _beyond(measured: Round, name: str) -> float:
    return measured[name].wall - (0.0 if name == UNIT else GATE_SECONDS)
