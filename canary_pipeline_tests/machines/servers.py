"""PostgreSQL and Redis as Debian packages them, on loopback and free ports, ended by their pid."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

from canary_pipeline_tests.conftest import await_true
from canary_pipeline_tests.outside.s3_server import free_ports

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps what is PostgreSQL's, a folder for each version."""


@dataclass
class Server:
    """A server in a process of its own, which can be ended and started again as it was."""

    command: list[str]
    is_ready: list[str]
    port: int
    log: Path
    user: str | None = None
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, user=self.user, stdout=log, stderr=log, cwd=self.log.parent
            )
        await_true(self._answers, every=0.1)

    def end(self, with_signal: signal.Signals) -> None:
        """End it, and wait until it has."""
        assert self._process
        self._process.send_signal(with_signal)
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        return subprocess.run(self.is_ready, check=False, capture_output=True).returncode == 0


@dataclass
class Postgres(Server):
    """PostgreSQL, whose user `postgres` needs no password."""

    def database(self, name: str, template: str = "template1") -> str:
        """Make a database like another; returns its URL, with the driver that is installed."""
        make = Path(self.command[0]).with_name("createdb")
        on = ("-h", "127.0.0.1", "-p", f"{self.port}", "-U", "postgres")
        subprocess.run([make, *on, "--template", template, name], check=True)
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{name}"


@contextmanager
def postgresql() -> Iterator[Postgres]:
    """A PostgreSQL of its own, empty."""
    require("dagster_postgres")
    newest = max(DEBIAN.glob("*/bin"), default=None, key=lambda it: int(it.parent.name))
    programs = newest or _folder_of("initdb", "postgresql")
    user = "postgres" if os.getuid() == 0 else None  # it refuses to be run by root
    with _own_folder(user) as folder:
        data, [port] = folder / "data", free_ports(1)
        make = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust"]
        subprocess.run(make, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        server = Postgres(
            [
                str(programs / "postgres"),
                "-D",
                str(data),
                "-h",
                "127.0.0.1",
                "-p",
                f"{port}",
                "-k",
                "",
            ],
            [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", f"{port}"],
            port,
            folder / "log",
            user,
        )
        server.start()
        try:
            yield server
        finally:
            server.end(signal.SIGQUIT)  # at once: what it holds is thrown away


@contextmanager
def redis() -> Iterator[Server]:
    """A Redis of its own that keeps nothing on disk."""
    require("dagster_celery")
    programs = _folder_of("redis-server", "redis-server")
    with _own_folder() as folder:
        [port] = free_ports(1)
        server = Server(
            [
                str(programs / "redis-server"),
                "--bind",
                "127.0.0.1",
                "--port",
                f"{port}",
                "--save",
                "",
            ],
            [str(programs / "redis-cli"), "-p", f"{port}", "ping"],
            port,
            folder / "log",
        )
        server.start()
        try:
            yield server
        finally:
            server.end(signal.SIGKILL)


@contextmanager
def _own_folder(user: str | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="canary-server-") as folder:
        if user:
            shutil.chown(folder, user)
        yield Path(folder)


def _folder_of(program: str, package: str) -> Path:
    """The folder of a program; without it a developer's test is skipped, and CI's fails."""
    found = shutil.which(program)
    if found is None:
        missing(f"{program} is not installed; Debian's package is {package}")
    return Path(str(found)).parent


def require(module: str) -> None:
    """Do the same for want of a package of the extra `prove`."""
    if find_spec(module) is None:
        missing(f"{module} is not installed: pip install 'canary-pipeline[prove]'")


def missing(what: str) -> NoReturn:
    """Leave a test out for want of something, unless it runs in CI: there it fails."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
