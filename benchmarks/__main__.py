"""Measures, and writes the page: `python -m benchmarks [--rounds N] [--output FILE]`."""

import signal
from pathlib import Path

import click

from benchmarks.report import machine, page
from benchmarks.rounds import measure_rounds
from benchmarks.world import ROOT, World

LIMIT_SECONDS = 285.0


@click.command()
@click.option(
    "--rounds",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many, unless the time is over before.",
)
@click.option(
    "--output",
    default=ROOT / "docs/performance.md",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page; docs/performance.md by default.",
)
def main(rounds: int, output: Path) -> None:
    """Measure what a rollout costs beside `import dagster`, and write the page."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up
    about = machine()
    with World.made(LIMIT_SECONDS) as world:
        measured = measure_rounds(world, rounds)
    text = page(measured, about)
    output.write_text(text)
    click.echo(text)


if __name__ == "__main__":
    main()
