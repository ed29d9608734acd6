"""Hosts that are odd: whose system calls fail, or whose folders are mounted otherwise."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import CORE, PROGRAMS, Checkout, Commands, Result
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.live_staging import APPLY_VARIABLE, FAKE_APPLY, let_apply, live_in


def failing(*faults: str, of: Sequence[Path] = ()) -> list[str]:
    """The beginning of a command that runs the rest with system calls that fail.

    Args:
        faults: Such as `fsync,fdatasync:error=EIO`.
        of: Paths outside which nothing fails; by default everything does.
    """
    if shutil.which("strace") is None:
        missing = "making system calls fail needs strace (apt-get install strace)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    traced = ",".join(fault.partition(":")[0] for fault in faults)
    words = ["strace", "-f", "--seccomp-bpf", "-qqq", "-o", os.devnull, "-e", f"trace={traced}"]
    paths = [word for path in of for word in ("-P", str(path))]
    if not _works((*words, "true")):
        pytest.skip("tracing a process is not permitted here")
    return [*words, *paths, *(word for fault in faults for word in ("-e", f"inject={fault}"))]


def mounted(script: str) -> list[str]:
    """The beginning of a command that runs the rest where a script has mounted something."""
    alone = ("unshare", "--mount")
    if not _works((*alone, "true")):
        pytest.skip("mounting for one process alone is not permitted here")
    return [*alone, "/bin/sh", "-ec", f'{script}\nexec "$@"', "sh"]


def fill(folder: Path) -> Path:
    """Use up a file system; returns the file to remove."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


@cache
def _works(words: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(words, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size (`size=3m`, or `nr_inodes=4`) in a new folder."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - as above


@dataclass
class Host:
    """Where a rollout to a staging that is applied to is begun."""

    commands: Commands
    checkout: Checkout
    staging: FakeStaging
    root: Path

    def rollout(self, *before: str, command: tuple[str, ...] = CORE) -> Result:
        """Roll out by a command that begins with what makes the host odd."""
        words = [*before, str(PROGRAMS / command[0]), *command[1:], "run", "--cohorts", "5"]
        return self.commands.run(shutil.which(words[0]) or words[0], *words[1:])

    def set(self, **variables: str | Path | None) -> None:
        """Set variables, or unset them."""
        for name, value in variables.items():
            self.commands.environment.pop(name, None)
            if value is not None:
                self.commands.environment[name] = str(value)

    @property
    def output(self) -> Path:
        return self.commands.folder / "output"

    @property
    def percent(self) -> int:
        """What is live."""
        return int(live_in(self.checkout.folder / "live.env")["data"]["canary_user_percent"])

    def is_untouched(self) -> bool:
        """Whether nothing was written, run, asked or applied."""
        begun = list((self.checkout.folder / "started").iterdir())
        return not (begun or self.staging.seen or self.percent or list(self.output.glob("*")))


@pytest.fixture
def host(commands: Commands, checkout: Checkout, staging: FakeStaging, tmp_path: Path) -> Host:
    let_apply(staging, checkout.folder)
    commands.environment[APPLY_VARIABLE] = FAKE_APPLY
    return Host(commands, checkout, staging, tmp_path)


Odd = Callable[[Host], list[str]]
"""Makes a host odd, and returns the beginning of a command that runs the rest there."""
