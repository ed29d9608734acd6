"""Measures what many machines cost, and writes the page: `python -m benchmarks.machines`.

Needs the extra `prove`, and PostgreSQL as Debian packages it.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NamedTuple

import click
import pytest

from benchmarks.measured import Measured
from benchmarks.report import machine
from benchmarks.world import GATE_SECONDS, PROGRAMS, ROOT, TOKEN, World
from canary_pipeline_tests.machines.servers import Postgres, postgresql
from canary_pipeline_tests.outside.s3_server import seaweedfs

LIMIT_SECONDS = 900.0
MANY = 1000

RUN = (PROGRAMS / "canary-rollout", "run")
LOAD = (PROGRAMS / "python", "-c", "from canary_pipeline.definitions import defs")

PAGE = """\
# What many machines cost

`python -m benchmarks.machines` measured this and wrote this page. In each of {rounds} rounds every
contender ran once, so that what else the machine does hits all alike; a figure is the median of the
rounds' ratios, with the least and the most in brackets.

{machine}

A rollout is `canary-rollout run`: four gates that sleep for {gate:g} s, five cohorts without soaks,
all asked of a server on loopback. CPU is that of its processes, without the servers'; wall is the
time beyond the longest gate.

| | at most | CPU | wall |
| --- | ---: | ---: | ---: |
{rows}
"""

_DAGSTER = """\
telemetry:
  enabled: false
storage:
  postgres:
    postgres_url:
      env: DAGSTER_POSTGRES_URL
"""

_ENVIRONMENTS = """\
name = "staging"
cohorts = [5, 10, 25, 50, 100]
soak_seconds = 0
[gates]
one = "scripts/local-ci.sh one"
two = "scripts/local-ci.sh two"
three = "scripts/local-ci.sh three"
four = "scripts/local-ci.sh four"
"""


class Question(NamedTuple):
    """What is asked, of which contender against which, and what was demanded."""

    words: str
    name: str
    against: str
    at_most: float


QUESTIONS = (
    Question("a rollout with its history in PostgreSQL, of SQLite", "postgres", "here", 1.1),
    Question("a rollout with its evidence on SeaweedFS, of a local folder", "bucket", "here", 1.3),
    Question(f"loading {MANY} environments, of one", "load many", "load one", 1.2),
    Question(f"a rollout of one of {MANY} environments, of the only one", "of many", "of one", 1.1),
)

Round = dict[str, Measured]


@dataclass(frozen=True)
class Servers:
    """What runs beside all rounds: the address of a bucket, and a PostgreSQL."""

    bucket: str
    postgres: Postgres


@contextmanager
def servers() -> Iterator[Servers]:
    """Start them, and end them."""
    with (
        TemporaryDirectory() as folder,
        seaweedfs(Path(folder)) as bucket,
        postgresql() as postgres,
    ):
        yield Servers(bucket, postgres)


def contenders(world: World, beside: Servers) -> dict[str, Callable[[], Measured]]:
    """What takes turns, by name."""
    s3 = {
        "OA_CANARY_EVIDENCE_URL": "s3://evidence/benchmark",
        "AWS_ENDPOINT_URL": beside.bucket,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
    }
    one, many = (_environments(world, number) for number in (1, MANY))
    chosen = (*RUN, "--environment", "staging-0")
    return {
        "here": partial(world.run, RUN),
        "postgres": _with_postgres(world, beside.postgres),
        "bucket": partial(world.run, RUN, s3),
        "load one": partial(world.run, LOAD, one),
        "load many": partial(world.run, LOAD, many),
        "of one": partial(world.run, chosen, one),
        "of many": partial(world.run, chosen, many),
    }


def _with_postgres(world: World, postgres: Postgres) -> Callable[[], Measured]:
    """A rollout that finds a database which is ready and has no history."""
    home = world.folder / "on-postgres"
    home.mkdir()
    (home / "dagster.yaml").write_text(_DAGSTER)
    make = "from canary_pipeline.commands.dagster_home import use_home; use_home()"
    ready = {"DAGSTER_HOME": str(home), "DAGSTER_POSTGRES_URL": postgres.database("ready")}
    world.run((PROGRAMS / "python", "-c", make), ready, fresh_home=False)
    numbers = count(1)

    def run() -> Measured:
        url = postgres.database(f"run{next(numbers)}", template="ready")
        return world.run(RUN, {"DAGSTER_POSTGRES_URL": url}, home="on-postgres")

    return run


def _environments(world: World, number: int) -> dict[str, str]:
    of_each = (
        f'control_base_url = "{world.staging.url}"\nrepo_root = "{world.folder / "checkout"}"\n'
    )
    file = world.folder / f"{number}.toml"
    each = (f"[environments.staging-{index}]\n{of_each}" for index in range(number))
    file.write_text(_ENVIRONMENTS + "".join(each))
    return {"OA_CANARY_ENVIRONMENTS": str(file), "OA_STAGING_0_CONTROL_AUTH_TOKEN": TOKEN}


def page(rounds: list[Round], about: str) -> str:
    """The whole page, in Markdown."""
    cells = (
        (it.words, f"{it.at_most}", _ratios(rounds, it, _cpu), _ratios(rounds, it, _wall))
        for it in QUESTIONS
    )
    rows = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return PAGE.format(rounds=len(rounds), machine=about, gate=GATE_SECONDS, rows=rows)


def _ratios(rounds: Iterable[Round], it: Question, of: Callable[[str, Round], float]) -> str:
    found = sorted(of(it.name, each) / of(it.against, each) for each in rounds)
    return f"{median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def _cpu(name: str, measured: Round) -> float:
    return measured[name].cpu


def _wall(name: str, measured: Round) -> float:
    return measured[name].wall - (0.0 if name.startswith("load") else GATE_SECONDS)


def measure_rounds(beside: Servers, most: int) -> list[Round]:
    """Run every contender once a round, every second round backwards, while there is time."""
    rounds: list[Round] = []
    longest = 0.0
    with World.made(LIMIT_SECONDS) as world:
        runs = contenders(world, beside)
        for each in runs.values():
            each()  # every cache warm
        while len(rounds) < most and (not rounds or world.seconds_left > 2 * longest):
            start = monotonic()
            names = list(runs) if len(rounds) % 2 == 0 else list(reversed(runs))
            rounds.append({name: runs[name]() for name in names})
            longest = max(longest, monotonic() - start)
            click.echo(f"round {len(rounds)} is measured", err=True)
    return rounds


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--output",
    default=ROOT / "docs/many-machines-cost.md",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page; docs/many-machines-cost.md by default.",
)
def main(rounds: int, output: Path) -> None:
    """Measure what PostgreSQL, a bucket and many environments cost, and write the page."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up
    about = machine()
    try:
        measured = _measured_beside_servers(rounds)
    except pytest.skip.Exception as left_out:
        click.echo(f"nothing is measured: {left_out}", err=True)
        return
    text = page(measured, about)
    output.write_text(text)
    click.echo(text)


def _measured_beside_servers(rounds: int) -> list[Round]:
    context = get_context("fork")
    answers = context.SimpleQueue()
    with servers() as beside:
        # In a process of its own: whatever descends from one that measures counts, or is ended.
        measuring = context.Process(target=lambda: answers.put(measure_rounds(beside, rounds)))
        measuring.start()
        measuring.join()
    if measuring.exitcode:
        raise click.exceptions.Exit(1)
    measured: list[Round] = answers.get()
    return measured


if __name__ == "__main__":
    main()
