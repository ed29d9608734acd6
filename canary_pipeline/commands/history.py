"""Past rollouts as people and tools read them: a table, plain lines, or JSON."""

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TextIO, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from canary_pipeline.commands.exits import BadInputError, answers
from canary_pipeline.commands.flags import environment_flag
from canary_pipeline.environments import STAGING, chosen, served
from canary_pipeline.model.text import duration, one_line
from canary_pipeline.outside.claim import current_holder
from canary_pipeline.reports.history import PastRollout, past_rollouts
from canary_pipeline.reports.past_soaks import past_soaks, proposal_lines
from canary_pipeline.reports.progress import clock_face
from canary_pipeline.store.elsewhere import bring_newest, each_elsewhere
from canary_pipeline.store.rollouts import newest_first

OUTPUT_ROOT = Path(STAGING.output_root)

T = TypeVar("T")

COLUMNS = (
    "started (UTC)", "decision", "verifies", "age", "commit", "duration", "reached",
    "what blocked or was left out", "folder",
)  # fmt: skip
SHORT_COMMIT = 9

_STYLES = {"allow": "green", "block": "bold red"}


def tell(
    root: str | None,
    limit: int,
    picture: str | None,
    *,
    as_json: bool,
    environment: str | None = None,
) -> None:
    """Print the newest rollouts, and draw them if asked to.

    Args:
        root: The folder that holds the rollouts' folders; None for the usual one, which need not
            be there yet.
        limit: The most rollouts to tell of.
        picture: The file to draw them to.
        as_json: Whether the output is for tools.
        environment: The name of the environment whose rollouts count; None for all.

    Raises:
        BadInputError: When the root cannot be listed, or the picture not be drawn there.
    """
    _check_picture(picture)
    names = None if environment is None else {environment}
    if root is None:
        _bring(limit + 1, names)
    found = _below(root, lambda folder: past_rollouts(folder, limit + 1, names, cache(_holder_of)))
    shown = found[:limit]
    if not found:
        of = f" of {environment}" if environment else ""
        message = f"no rollouts{of} in {one_line(root or str(OUTPUT_ROOT))}"
        print(message, file=sys.stderr if as_json else sys.stdout)
        return
    if as_json:
        print_json(shown, sys.stdout)
    else:
        print_table(shown, sys.stdout)
    if len(found) > limit:
        print(f"older ones are left out; --limit shows more than {limit}", file=sys.stderr)
    if picture is not None:
        _draw(shown, Path(picture))


def _bring(most: int, names: Collection[str] | None) -> None:
    """Bring here what other hosts have published."""
    there = served(os.environ).rolled_out_to
    wanted = (each for each in there if names is None or each.name in names)
    bring_newest(each_elsewhere(wanted, os.environ), most)


def _holder_of(name: str) -> Mapping[str, str] | None:
    """Who holds an environment: on any host where hosts share it, else on this one."""
    there = (each for each in served(os.environ).rolled_out_to if each.name == name)
    shared = next(iter(each_elsewhere(there, os.environ)), None)
    return current_holder(name) if shared is None else shared.holder()


def propose(root: str | None, limit: int, environment: str | None = None) -> None:
    """Print the limits that past soaks suggest.

    Args:
        root: As for `tell`.
        limit: The most rollouts to read, the newest ones.
        environment: The name of the environment whose soaks count; None for all.

    Raises:
        BadInputError: When the root cannot be listed.
    """
    names = None if environment is None else {environment}
    found = _below(root, lambda folder: newest_first(folder, names))
    lines = proposal_lines(past_soaks(found[:limit]))
    print("\n".join(map(one_line, lines)) or "no passed soak that was looked at")


def _below(root: str | None, read: Callable[[Path], list[T]]) -> list[T]:
    if root == "":
        raise _bad_input("ROOT is empty: accepted is a folder")
    try:
        return read(OUTPUT_ROOT if root is None else Path(root))
    except OSError as error:
        if root is None and isinstance(error, FileNotFoundError):
            return []
        raise _bad_input(f"{root or OUTPUT_ROOT} cannot be listed: {error.strerror}") from None


def _check_picture(picture: str | None) -> None:
    """Refuse a name that is not a picture's, before it replaces a file of evidence."""
    if picture is None:
        return
    if Path(picture).suffix.lower() != ".png":
        raise _bad_input(f"--picture is {picture!r}: accepted is a file name that ends in .png")


def _draw(rollouts: Sequence[PastRollout], file: Path) -> None:
    from canary_pipeline.reports.trend import trend  # noqa: PLC0415 - imports matplotlib

    try:
        file.write_bytes(trend(rollouts))
    except OSError as error:
        raise _bad_input(f"--picture {file} cannot be written: {error.strerror}") from None


def _bad_input(message: str) -> BadInputError:
    return BadInputError(one_line(message))


def print_table(rollouts: Sequence[PastRollout], out: TextIO) -> None:
    """Print a table that fits a terminal, or aligned lines with nothing cut off elsewhere."""
    if not out.isatty():
        print("\n".join(plain_lines(rollouts)), file=out)
        return
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        fixed = column in COLUMNS[:-2]
        table.add_column(column, header_style="bold", no_wrap=fixed, overflow="fold")
    for rollout in rollouts:
        table.add_row(*_styled(_cells(rollout)))
    Console(file=out).print(table)


def plain_lines(rollouts: Sequence[PastRollout]) -> list[str]:
    """A heading and a line for each rollout, in columns two blanks apart."""
    lines = [COLUMNS, *(_cells(rollout) for rollout in rollouts)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(_padded(line, widths)).rstrip() for line in lines]


def print_json(rollouts: Sequence[PastRollout], out: TextIO) -> None:
    """Print a JSON object a line, in ASCII."""
    for rollout in rollouts:
        print(json.dumps(rollout.to_json_object(), allow_nan=False), file=out)


def _cells(rollout: PastRollout) -> tuple[str, ...]:
    """The texts of a rollout's columns, free of control characters."""
    folder = _shown_path(rollout.folder)
    if rollout.problem is not None:
        return ("-", "unreadable", *["-"] * 5, one_line(rollout.problem), one_line(folder))
    started, seconds, percent = (
        rollout.started_at, rollout.duration_seconds, rollout.highest_passed,
    )  # fmt: skip
    cells = (
        "-" if started is None else f"{started:%Y-%m-%d %H:%M:%S}",
        rollout.decision or "none",
        {True: "yes", False: "NO", None: "-"}[rollout.verifies],
        "-" if rollout.decided_at is None else _age(datetime.now(UTC) - rollout.decided_at),
        (rollout.commit or "-")[:SHORT_COMMIT],
        "-" if seconds is None else clock_face(seconds),
        "-" if percent is None else f"{percent} %",
        "; ".join(filter(None, (rollout.what_blocked, *rollout.remarks))) or "-",
        folder,
    )
    return tuple(map(one_line, cells))


def _age(age: timedelta) -> str:
    return f"{age.days} d" if age.days > 0 else duration(age.total_seconds())


def _shown_path(folder: Path) -> str:
    """A folder as one would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _styled(cells: Sequence[str]) -> Iterator[Text]:
    """The cells as texts, in which a `[` is no markup."""
    for column, cell in zip(COLUMNS, cells, strict=True):
        yield Text(cell, style=_STYLES.get(cell, "yellow") if column == "decision" else "")


def _padded(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for cell, width in zip(cells, widths, strict=True):
        yield cell + " " * (width - cell_len(cell))


@click.command()
@click.argument("root", required=False)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="How many to tell."
)
@click.option("--picture", metavar="FILE.png", help="Also draw how long these took, and the ends.")
@click.option("--json", is_flag=True, help="Print a JSON object a line.")
@click.option("--limits", is_flag=True, help="Propose limits from passed soaks instead.")
@environment_flag
def history_command(
    root: str | None, limit: int, picture: str | None, environment: str | None, **wanted: bool
) -> None:
    """Tell of past rollouts, newest first.

    ROOT is the folder that holds their folders, by default output/canary/spacetime.
    """
    with answers():
        if environment is not None:  # refuse a name that none has
            environment = chosen(environment, os.environ, "--environment").name
        if not wanted["limits"]:
            tell(root, limit, picture, as_json=wanted["json"], environment=environment)
        elif picture is not None or wanted["json"]:
            raise BadInputError("--limits is told as text: accepted is no --picture and no --json")
        else:
            propose(root, limit, environment)
