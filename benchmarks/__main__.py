"""Measures, and writes the page: `python -m benchmarks [--quick] [--rounds N]`."""

import signal
from pathlib import Path

import click

from benchmarks import growth, report
from benchmarks.loading import measure_loading
from benchmarks.machine import machine
from benchmarks.overhead import RUN, measure_overhead, measure_slope
from benchmarks.spent import Spent
from benchmarks.world import ROOT, World

GATE_SECONDS = 3

LIMIT_SECONDS = 720
OVERHEAD_BUDGET_SECONDS = 400
SLOPE_BUDGET_SECONDS = 120
"""On a slow machine there are fewer rounds: none starts that would end after this."""


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--quick", is_flag=True, help="One round, and less of everything: two minutes.")
@click.option(
    "--output",
    default=ROOT / "docs/performance.md",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page; docs/performance.md by default.",
)
def main(rounds: int, quick: bool, output: Path) -> None:  # noqa: FBT001 - click passes by name
    """Measure what a rollout costs, and write the page."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up
    output.write_text(report.page(_measured(1 if quick else rounds, quick=quick)))
    click.echo(f"written: {output}")


def _measured(rounds: int, *, quick: bool) -> report.Results:
    about = machine()
    sizes = growth.QUICK if quick else growth.FULL
    with World.made(LIMIT_SECONDS) as world:
        click.echo("overhead")
        overhead = measure_overhead(world, rounds, GATE_SECONDS, OVERHEAD_BUDGET_SECONDS)
        spent = Spent(overhead[RUN].typical)
        phases, steps = spent.phases(), spent.steps()
        click.echo("cohorts")
        slope = measure_slope(world, rounds, 10 if quick else 25, SLOPE_BUDGET_SECONDS)
        click.echo("growth")
        grown = list(growth.measure_growth(world, sizes))
        click.echo("loading")
        loading = measure_loading(world, rounds)
    return report.Results(
        quick=quick,
        gate_seconds=GATE_SECONDS,
        machine=about,
        overhead=overhead,
        slope=slope,
        phases=phases,
        steps=steps,
        growth=grown,
        loading=loading,
    )


if __name__ == "__main__":
    main()
