"""Writes what was measured as a page of ratios."""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.rounds import (
    CORE,
    DEFAULT_COHORTS,
    EXECUTE,
    MANY_COHORTS,
    RUN,
    SHELL,
    SPAWN,
    UNIT,
    WATCHED,
    Round,
    cohort_ratios,
    cpu_ratios,
    wall_ratios,
)
from benchmarks.world import GATE_SECONDS

PAGE = """\
# What a rollout costs

`make bench` measured this and wrote this page. All times are ratios: `{unit}` in a fresh
interpreter is 1, measured in the same round, so that what else the machine does hits both alike.
Medians of {rounds}, with the least and the most in brackets.

{machine}

The rollout is the default one without soaks: four gates that sleep for {gate:g} s, {few} cohorts
with live probes, 24 snapshots, all asked of a server on loopback, in a Dagster instance that is
ready and has no history. *CPU* is that of every process which belongs to it, orphans too; *wall*
is the time beyond the longest gate.

{contenders}

| beside `{run}` | CPU | wall |
| --- | ---: | ---: |
| a further cohort (with {many} against {few}), of `{unit}` | {cohort_cpu} | {cohort_wall} |
| `{execute}`, of `{run}` | {execute_cpu} | {execute_wall} |

At most {own} of its processes {own_are} not of a gate, and {processes} ran at once: each gate has
its command and a guard, which kills the command should the rollout die. All together held
{megabytes:.0f} MB at the most; a page that several share is divided among them.

- *{core}* is `python -m canary_pipeline_tests.core_alone run`: the same steps, files and decision
  without Dagster.
- *{shell}* is [a few lines of shell](../benchmarks/baseline.sh) that ask and run the same and stop
  at the first error. They write no rows, no decision and no summary, cannot be resumed, and wait
  for the gates in turn.
- *{spawn}* runs [the same graph](../benchmarks/default_executor.py) with a new process for each
  step; it is run once, and stands above only where that ended in time.
"""


def page(rounds: Sequence[Round], machine: str) -> str:
    """The whole page, in Markdown.

    Args:
        rounds: What was measured.
        machine: A sentence on the machine.
    """
    cohort_cpu, cohort_wall = cohort_ratios(rounds)
    peak = rounds[0][WATCHED].peak
    return PAGE.format(
        unit=UNIT,
        run=RUN,
        execute=EXECUTE,
        core=CORE,
        shell=SHELL,
        spawn=SPAWN,
        rounds=f"{len(rounds)} round{'' if len(rounds) == 1 else 's'}",
        machine=machine,
        gate=GATE_SECONDS,
        few=DEFAULT_COHORTS,
        many=MANY_COHORTS,
        contenders=_contenders(rounds),
        cohort_cpu=_spread(cohort_cpu),
        cohort_wall=_spread(cohort_wall),
        execute_cpu=_spread(cpu_ratios(rounds, EXECUTE, RUN)),
        execute_wall=_spread(wall_ratios(rounds, EXECUTE, RUN)),
        own="one" if peak.beside_gates == 1 else peak.beside_gates,
        own_are="is" if peak.beside_gates == 1 else "are",
        processes=peak.processes,
        megabytes=peak.megabytes,
    )


def _contenders(rounds: Sequence[Round]) -> str:
    names = [name for name in (UNIT, RUN, EXECUTE, CORE, SHELL, SPAWN) if name in rounds[0]]
    rows = [
        f"| {name} | {_spread(cpu_ratios(rounds, name))} | {_spread(wall_ratios(rounds, name))} |"
        for name in names
    ]
    return "\n".join(("|  | CPU | wall |", "| --- | ---: | ---: |", *rows))


def _spread(ratios: Iterable[float]) -> str:
    found = sorted(ratios)
    if found[0] == found[-1]:
        return f"{found[0]:.2f}"
    return f"{median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def machine() -> str:
    """A sentence on the machine, and on what else it does."""
    memory = _field("/proc/meminfo", "MemTotal").partition(" ")[0]
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores of "
        f"{_field('/proc/cpuinfo', 'model name') or 'an unknown processor'} with "
        f"{int(memory or 0) * 1024 / 1e9:.0f} GB under {platform.system()}, with Python "
        f"{platform.python_version()} and\nDagster {version('dagster')}; the load average was "
        f"{os.getloadavg()[0]:.1f} when it began."
    )


def _field(file: str, name: str) -> str:
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
