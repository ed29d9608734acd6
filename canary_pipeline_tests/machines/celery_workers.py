"""Runs that Dagster hands to Celery: what launches them, and the workers that take them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from canary_pipeline_tests.conftest import Commands, await_true
from canary_pipeline_tests.machines.conftest import History, Host, World, kill
from canary_pipeline_tests.machines.servers import Server
from canary_pipeline_tests.test_dagster_dev import Dev, serving

LAUNCHER = """
run_launcher:
  module: dagster_celery.launcher
  class: CeleryRunLauncher
  config:
    broker: {url}
    backend: {url}
"""

PERCENTS = {"OA_STAGING_CANARY_COHORTS": "5,25,100"}
"""The same on every host, since they shape the graph; as `serving` has them."""


@dataclass
class Celery:
    """Two hosts that each have one worker, and a Dagster that launches.

    Attributes:
        world: The hosts.
        dev: Webserver, daemon and code location, on neither of them.
        workers: By host.
        history: What they all know of runs.
    """

    world: World
    dev: Dev
    workers: "dict[str, Popen[str]]"
    history: History

    def holder(self) -> tuple[str, Host, Host]:
        """The host whose worker has begun the only rollout, by name and itself, and the other."""
        holding, idle = sorted(
            zip(self.workers, self.world.hosts, strict=True),
            key=lambda host: not any(host[1].commands.folders),
        )
        return holding[0], holding[1], idle[1]

    def kill(self, name: str) -> None:
        """Kill the worker of a host; the guard of a gate takes the gate's processes with it."""
        kill(self.workers[name])


@contextmanager
def celery(world: World, commands: Commands, history: History, broker: Server) -> Iterator[Celery]:
    """Start it all, and end it."""
    url = f"redis://127.0.0.1:{broker.port}/0"
    settings = commands.folder / "celery"
    settings.mkdir()
    (settings / "dagster_celery_config.py").write_text(f"broker_url = result_backend = {url!r}\n")
    every = (commands, world.one.commands, world.other.commands)
    for each in every:
        each.environment |= PERCENTS
        each.environment["PYTHONPATH"] += f":{settings}"
        history.keep(Path(each.environment["DAGSTER_HOME"]), LAUNCHER.format(url=url))
    with ExitStack() as stack:
        workers = {
            name: _worker(host, name, stack)
            for name, host in zip(("one", "other"), world.hosts, strict=True)
        }
        dev = stack.enter_context(serving(commands))
        await_true(lambda: all(" ready." in _log(host).read_text() for host in world.hosts))
        yield Celery(world, dev, workers, history)


def _worker(host: Host, name: str, stack: ExitStack) -> "Popen[str]":
    # A forked worker may not have children, which a gate is: so it works by itself.
    options = ("--pool", "solo", "--hostname", f"{name}@%h", "--loglevel", "info")
    output = stack.enter_context(_log(host).open("w"))
    process = host.commands.start(
        "celery", "--app", "dagster_celery.app", "worker", *options, output=output
    )
    stack.callback(kill, process)
    return process


def _log(host: Host) -> Path:
    return host.commands.folder / "worker.log"
