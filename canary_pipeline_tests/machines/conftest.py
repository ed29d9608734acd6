"""Hosts that share a staging, a checkout and a place for evidence, and nothing else."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import IO
from uuid import uuid4

import dagster as dg
import pytest

from canary_pipeline.outside.lease import EXPIRY_SECONDS
from canary_pipeline_tests.conftest import (
    CORE,
    PROGRAMS,
    Checkout,
    Commands,
    Result,
    await_true,
    under_way,
)
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.live_staging import APPLY_VARIABLE, FAKE_APPLY, let_apply, live_in
from canary_pipeline_tests.machines.servers import Postgres, Server, postgresql, redis

URL = "OA_CANARY_EVIDENCE_URL"
Process = subprocess.Popen[str]

SOAK = "OA_STAGING_CANARY_COHORT_SOAK_SECONDS"


@dataclass
class Host:
    """One host: its own folders for work, claims, state and what is temporary."""

    commands: Commands
    name: str

    def start_program(
        self, program: str, *arguments: str, output: IO[str] | None = None
    ) -> Process:
        """Start a program as people do, under this host's name, which takes root to have."""
        words = [str(PROGRAMS / program), *arguments]
        unshare = shutil.which("unshare")
        if os.getuid() == 0 and unshare is not None:
            words = [unshare, "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.name, *words]
        return self.commands.start(*words, output=output)

    def start(self, *arguments: str, **more: str) -> Process:
        """Start `canary-rollout` with the core alone."""
        return self.commands.start(*CORE, *arguments, more=more)

    def run(self, *arguments: str, **more: str) -> Result:
        return self.commands.run(*CORE, *arguments, more=more)

    @property
    def folder(self) -> Path:
        """The folder of this host's only rollout."""
        [folder] = self.commands.folders
        return folder


@dataclass
class World:
    """Two hosts, and what they share."""

    one: Host
    other: Host
    shared: Path
    checkout: Checkout

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.one, self.other

    @property
    def percent(self) -> int:
        """What is live."""
        live = live_in(self.checkout.folder / "live.env")
        return int(live["data"]["canary_user_percent"])

    @property
    def published(self) -> Path:
        """The only rollout that is published, as the store holds it."""
        [folder] = (self.shared / "rollouts/staging").iterdir()
        return folder

    def expire(self, seconds: float = EXPIRY_SECONDS + 1) -> None:
        """Let the lease be older by so many seconds of the store's clock, by default too old."""
        lease = self.shared / "leases/staging.json"
        written = lease.stat().st_mtime - seconds
        os.utime(lease, (written, written))

    def await_phase(self, phase: str) -> None:
        """Wait until the published rollout is in a phase such as `soak`."""
        await_true(lambda: _in_phase(self.shared, phase))


def _in_phase(shared: Path, phase: str) -> bool:
    rollouts = shared.glob("rollouts/staging/*")
    return any(state["phase"] == phase for folder in rollouts for state in under_way(folder))


def kill(process: Process) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture
def world(commands: Commands, checkout: Checkout, staging: FakeStaging, tmp_path: Path) -> World:
    shared = tmp_path / "shared"
    shared.mkdir()
    let_apply(staging, checkout.folder)
    commands.environment |= {URL: f"file://{shared}", APPLY_VARIABLE: FAKE_APPLY}
    one, other = (_host(commands, tmp_path / name) for name in "ab")
    return World(one, other, shared, checkout)


def _host(commands: Commands, folder: Path) -> Host:
    for name in ("work", "claims", "tmp"):
        (folder / name).mkdir(parents=True)
    own = {
        "CANARY_PIPELINE_CLAIM_DIR": str(folder / "claims"),
        "CANARY_PIPELINE_STATE_DIR": str(folder / "state"),
        "DAGSTER_HOME": str(folder / "dagster"),
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
    }
    environment = {**commands.environment, **own}
    commands = replace(commands, folder=folder / "work", environment=environment)
    return Host(commands, f"host-{folder.name}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def broker() -> Iterator[Server]:
    with redis() as server:
        yield server


@dataclass
class History:
    """Dagster's storage in a database of its own."""

    url: str

    def keep(self, home: Path, more: str = "") -> None:
        """Let the Dagster instance in a folder keep its history here."""
        text = resources.files("canary_pipeline").joinpath("instance.yaml").read_text("utf-8")
        text += f"storage:\n  postgres:\n    postgres_url: {self.url}\n{more}"
        home.mkdir(parents=True, exist_ok=True)
        (home / "dagster.yaml").write_text(text)

    def runs(self, home: Path) -> list[dg.DagsterRun]:
        """Every run, oldest first, as the instance in that folder knows them."""
        with dg.DagsterInstance.from_config(str(home)) as instance:
            return list(reversed(instance.get_runs()))


@pytest.fixture
def history(postgres: Postgres) -> History:
    """A database without history; making its tables takes Dagster some seconds."""
    return History(postgres.database(f"history_{uuid4().hex}"))
