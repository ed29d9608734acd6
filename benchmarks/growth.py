"""What becomes of time and memory when there is much of something."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.many_gates import COUNT_VARIABLE, GATE_SECONDS, WIDE
from benchmarks.overhead import CONTENDERS, RUN, first_percents
from benchmarks.processes import Memory
from benchmarks.world import LOG_BYTES_VARIABLE, PROGRAMS, TOKEN, Run, World
from canary_pipeline_tests.fake_staging import GOOD, answer

BODY_BYTES = 1_000_000


@dataclass(frozen=True)
class Sizes:
    """How much of everything there is."""

    gates: int
    cohorts: int
    rollouts: int
    log_megabytes: int


FULL = Sizes(gates=64, cohorts=100, rollouts=1000, log_megabytes=100)
QUICK = Sizes(gates=16, cohorts=15, rollouts=200, log_megabytes=20)


@dataclass(frozen=True)
class Growth:
    """One run with much of something.

    Attributes:
        name: Of what.
        seconds: The whole process.
        memory: The peak of its processes.
    """

    name: str
    seconds: float
    memory: Memory


def measure_growth(world: World, sizes: Sizes) -> Iterator[Growth]:
    """Run each once, watching its memory."""
    plain = world.run(CONTENDERS[RUN], watch_memory=True)
    yield _growth("the default plan, with gates that take no time", plain)
    yield _growth(f"{sizes.gates} gates of {GATE_SECONDS} s, 1 cohort", _many_gates(world, sizes))
    cohorts = ("--cohorts", first_percents(sizes.cohorts))
    many_cohorts = world.run([*CONTENDERS[RUN], *cohorts], watch_memory=True)
    yield _growth(f"{sizes.cohorts} cohorts", many_cohorts)
    log = {LOG_BYTES_VARIABLE: str(sizes.log_megabytes * 1_000_000)}
    long_log = world.run(CONTENDERS[RUN], log, watch_memory=True)
    yield _growth(f"a gate that logs {sizes.log_megabytes} MB", long_log)
    yield _growth("a probe's body of 1 MB", _large_body(world))
    root = _many_rollouts(world, plain.rollout, sizes.rollouts)
    for option in ((), ("--limit", str(sizes.rollouts), "--json")):
        command = [PROGRAMS / "canary-rollout", "history", root, *option]
        shown = " ".join(("history", *option))
        past = world.run(command, watch_memory=True)
        yield _growth(f"{sizes.rollouts} past rollouts: `{shown}`", past)


def _growth(name: str, run: Run) -> Growth:
    return Growth(name, run.measured.seconds, run.measured.memory)


def _many_gates(world: World, sizes: Sizes) -> Run:
    more = {
        COUNT_VARIABLE: str(sizes.gates),
        "OA_WIDE_REPO_ROOT": str(world.folder / "checkout"),
        "OA_WIDE_CONTROL_BASE_URL": world.staging.url,
        "OA_WIDE_CONTROL_AUTH_TOKEN": TOKEN,
    }
    job = ("-m", "benchmarks.many_gates", "-j", WIDE.job_name)
    return world.run([PROGRAMS / "dagster", "job", "execute", *job], more, watch_memory=True)


def _large_body(world: World) -> Run:
    world.staging.probes[5] = answer(200, {**GOOD, "padding": "x" * (BODY_BYTES - 100)})
    try:
        return world.run(CONTENDERS[RUN], watch_memory=True)
    finally:
        del world.staging.probes[5]


def _many_rollouts(world: World, rollout: Path, number: int) -> Path:
    """A folder of past rollouts, a day apart: one that was run, and its likenesses."""
    root = world.folder / "past"
    header = json.loads((rollout / "rollout.json").read_text())
    for days in range(number):
        moment = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=days)
        folder = root / f"staging-{moment:%Y%m%dT%H%M%SZ}"
        shutil.copytree(rollout, folder, copy_function=os.link)
        (folder / "rollout.json").unlink()
        started_at = moment.isoformat().replace("+00:00", "Z")
        text = json.dumps({**header, "started_at": started_at})
        (folder / "rollout.json").write_text(text)
    return root
