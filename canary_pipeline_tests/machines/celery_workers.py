"""Runs that Dagster hands to Celery: what launches them, and the workers that take them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from canary_pipeline_tests.conftest import Commands, await_true
from canary_pipeline_tests.machines.conftest import History, Host, Process, World, kill
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
    workers: dict[str, Process]
    history: History

    def holder(self) -> tuple[Host, Host]:
        """The host whose worker has begun the only rollout, and the other."""
        holding, idle = sorted(self.world.hosts, key=lambda host: not host.commands.folders)
        return holding, idle

    def kill(self, host: Host) -> None:
        """Kill the worker of a host."""
        kill(self.workers[host.name])


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
        workers = {host.name: _worker(host, stack) for host in world.hosts}
        dev = stack.enter_context(serving(commands))
        await_true(lambda: all(" ready." in _log(host).read_text() for host in world.hosts))
        yield Celery(world, dev, workers, history)


def _worker(host: Host, stack: ExitStack) -> Process:
    # A forked worker may not have children, which a gate is: so it works by itself.
    options = ("--pool", "solo", "--loglevel", "info")
    output = stack.enter_context(_log(host).open("w"))
    process = host.start_program(
        "celery", "--app", "dagster_celery.app", "worker", *options, output=output
    )
    stack.callback(kill, process)
    return process


def _log(host: Host) -> Path:
    return host.commands.folder / "worker.log"
