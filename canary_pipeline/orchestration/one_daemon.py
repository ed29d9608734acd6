"""One daemon for one home: a second one would run each time of a schedule once more.

Dagster notices two daemons only in their logs. Here the first one that ticks leaves its name in
the home, and keeps the schedule until its process ends; every other one skips, and says so. What
waits in the queue is begun by either of them, so a run that the schedule asked for says for which
staging, and is refused where it would roll out to another.
"""

import os
import platform
from contextlib import suppress
from pathlib import Path

import dagster as dg
from filelock import FileLock
from pydantic import BaseModel, ValidationError

from canary_pipeline.model.environment import Environment
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.urls import shown_url
from canary_pipeline.outside.process_identity import GONE, is_there, process_name
from canary_pipeline.settings import SettingError
from canary_pipeline.sources import read_values
from canary_pipeline.store.writing import write_whole

SERVICE_TAG = "canary/scheduled-for"
"""For which service the schedule has asked for a run."""

ADVICE = "Run one daemon per DAGSTER_HOME"

LONGEST_WAIT = 10.0
"""Seconds to wait for another one to write down its name."""


class _Ticker(BaseModel):
    """Who evaluates a schedule.

    Attributes:
        host: Its host.
        process: What has started the code server, which a reload of the code does not end.
        folder: Where it works: what tells two services of a host apart.
        due: The time that it has evaluated last.
        tick: Dagster's number of that tick.
    """

    host: str
    process: str
    folder: str
    due: str
    tick: str

    def __str__(self) -> str:
        return f"process {self.process.partition('.')[0]} in {self.folder}"


def other_daemon(context: dg.ScheduleEvaluationContext, name: str) -> str | None:
    """Why a schedule is not this daemon's to evaluate, as a sentence; None where it is.

    Args:
        context: The tick. One that somebody tries by hand has no number, and belongs to nobody.
        name: The schedule's name.
    """
    tick = (context.log_key or [""])[-1]
    if not tick.isdecimal():
        return None
    due = rfc3339(context.scheduled_execution_time)
    ours = _Ticker(
        host=platform.node(), process=_server(), folder=str(Path.cwd()), due=due, tick=tick
    )
    home = Path(context.instance.root_directory)
    with suppress(OSError), FileLock(home / f".canary-pipeline.{name}.lock", timeout=LONGEST_WAIT):
        note = home / f".canary-pipeline.{name}.json"
        why = _why(_read(note), ours)
        if why is None:
            write_whole(note, ours.model_dump_json(indent=2).encode())
        return why
    return None  # a home that cannot be written to says nothing of anybody


def service(environment: Environment) -> str:
    """What tells the services of a host apart: where they work, and for which staging."""
    url = None
    with suppress(SettingError):
        named = read_values(environment, os.environ, names=("control_base_url",))
        url = named.values.control_base_url
    return f"{platform.node()}: {Path.cwd()}, {shown_url(url) if url else 'no control URL'}"


def refuse_another_s(run: dg.DagsterRun, environment: Environment) -> None:
    """Make sure that what the schedule of a service asked for is not done by another one.

    Raises:
        dagster.Failure: When it would be, on this host; nothing was done.
    """
    asked, here = run.tags.get(SERVICE_TAG), service(environment)
    if asked is None or run.parent_run_id is not None:  # a person re-executes where he likes
        return
    if asked.partition(":")[0] == platform.node() and asked != here:
        message = (
            f"the schedule of another service asked for this run, and nothing was done: it is of "
            f"{asked}, and this is {here}. {ADVICE}"
        )
        raise dg.Failure(message, allow_retries=False)


def _why(theirs: _Ticker | None, ours: _Ticker) -> str | None:
    if theirs is None or theirs.host != ours.host:
        return None
    if theirs.process != ours.process:
        who = f"{theirs} evaluates this schedule, and this is {ours}"
        seen = is_there(theirs.process)
    else:  # one code server for two daemons
        who = f"tick {theirs.tick} was of this very time"
        seen = theirs.due == ours.due and theirs.tick != ours.tick
    return f"another daemon serves this home, too: {who}. {ADVICE}" if seen else None


def _server() -> str:
    """The daemon, or the code server that it has started; this process where it is alone."""
    parent = process_name(os.getppid())
    return process_name(os.getpid()) if parent.endswith(GONE) else parent


def _read(note: Path) -> _Ticker | None:
    try:
        return _Ticker.model_validate_json(note.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
