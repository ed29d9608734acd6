"""`canary-rollout prune`: delete the folders of old rollouts that nobody needs any more."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from canary_pipeline.commands.exits import BadInputError, answers
from canary_pipeline.environments import STAGING
from canary_pipeline.model.commit import commits_seen
from canary_pipeline.outside.claim import EnvironmentTakenError, lock_folder
from canary_pipeline.reports.history import PastRollout, past_rollouts, read_rollout
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal
from canary_pipeline.store.layout import DECISION, HEADER, OF_A_ROLLOUT

_UNITS = {"d": "days", "h": "hours"}


def prune(root: Path, keep: str, keep_last: int, *, dry_run: bool) -> None:
    """Delete the folders of old rollouts, and say which.

    Args:
        root: What holds them.
        keep: How young a rollout stays, such as `90d`.
        keep_last: How many stay of those that were worked on last.
        dry_run: Whether only to say what would go.

    Raises:
        BadInputError: When `keep` is no age, or the root cannot be listed.
    """
    age = re.fullmatch(r"([0-9]{1,5})([dh])", keep)
    if age is None:
        raise BadInputError(f"--keep is {keep!r}; accepted: days or hours, such as 90d or 12h")
    since = datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    root, goes = root.absolute(), "would go" if dry_run else "deleted"
    left = sorted(root.glob(".*.going"))  # by a prune that was killed
    for going in left:
        if not dry_run:
            _remove(going)
        print(f"{goes}: {going}")
    try:
        found = [rollout for rollout in past_rollouts(root) if rollout.folder not in left]
    except OSError as error:
        raise BadInputError(f"{root} cannot be listed: {error.strerror}") from None
    old = set(_not_needed(found, since, keep_last))
    for rollout in found:
        if rollout.problem is not None:
            print(f"kept: {rollout.folder} ({rollout.problem})")
        elif rollout.folder in old:
            deleted = dry_run or _delete(rollout)
            print(f"{goes if deleted else 'kept, worked on just now'}: {rollout.folder}")


def _not_needed(found: list[PastRollout], since: datetime, keep_last: int) -> Iterator[Path]:
    """The folders that may go, by what `verify` takes for the newest below a root."""
    seen: set[tuple[str, str | None]] = set()
    for number, rollout in enumerate(sorted(found, key=_worked_on_at, reverse=True)):
        if rollout.problem is not None or rollout.folder.is_symlink():
            continue
        record = Evidence(rollout.folder).record()
        of = {(rollout.environment, commit) for commit in (None, *commits_seen(record))}
        newest, old = not of <= seen, rollout.started_at and rollout.started_at < since
        seen |= of
        state = Journal(rollout.environment).read()
        owed = record.header.live_before is not None and rollout.decision != "allow"
        known = (state.newest, state.owed.folder if state.owed else None)
        spoken_of = rollout.folder.resolve() in {each.resolve() for each in known if each}
        under_way = rollout.ended_at is None
        if old and number >= keep_last and not (newest or owed or spoken_of or under_way):
            yield rollout.folder


def _worked_on_at(rollout: PastRollout) -> datetime:
    """When a rollout was worked on last, as far as it tells."""
    told = (rollout.started_at, rollout.ended_at, rollout.decided_at)
    return max(filter(None, told), default=datetime.min.replace(tzinfo=UTC))


def _delete(rollout: PastRollout) -> bool:
    """Delete a rollout's folder, unless somebody has gone on with it since it was read."""
    folder = rollout.folder
    going = folder.with_name(f".{folder.name}.going")
    try:
        with lock_folder(folder, {"started by": "canary-rollout prune"}):
            if read_rollout(Evidence(folder)) != rollout:
                return False
            folder.rename(going)  # from here on nobody can
    except EnvironmentTakenError:
        return False
    _remove(going)
    return True


def _remove(going: Path) -> None:
    """Remove a folder, at every moment of which it is a rollout that says less, or none.

    Its decision goes first. Its header goes last: what only a rollout's folder holds, without one
    that says how old it is, may be the newest rollout for whoever verifies.
    """
    others = set(OF_A_ROLLOUT) - {DECISION, HEADER}
    for name in (DECISION, *sorted(others), HEADER):
        (going / name).unlink(missing_ok=True)
    shutil.rmtree(going)


@click.command()
@click.argument("root", required=False)
@click.option("--keep", default="90d", show_default=True, help="Younger ones stay: 90d, 12h.")
@click.option("--keep-last", default=50, show_default=True, type=click.IntRange(min=0))
@click.option("--dry-run", is_flag=True, help="Only say which would go.")
def prune_command(root: str | None, keep: str, keep_last: int, *, dry_run: bool) -> None:
    """Delete the folders of old rollouts.

    Never of one that is under way or owes a rollback, nor of the newest of a commit. ROOT is the
    folder that holds their folders, by default output/canary/spacetime.
    """
    with answers():
        if root == "":
            raise BadInputError("ROOT is empty: accepted is a folder")
        prune(Path(root or STAGING.output_root), keep, keep_last, dry_run=dry_run)
