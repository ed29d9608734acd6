"""One rollout of an environment at a time on this host, however it was launched.

The claim is a lock that the kernel drops with its process, so a killed owner leaves nothing to
clean up. The lock file says who holds it.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CLAIM_FOLDER_VARIABLE = "CANARY_PIPELINE_CLAIM_DIR"
DEFAULT_CLAIM_FOLDER = "/tmp"  # noqa: S108 - the one folder that every user of a host shares


class EnvironmentTakenError(Exception):
    """Another rollout of the environment is under way; the message names it."""

    def __init__(self, environment: str, holder: Mapping[str, str]) -> None:
        """Say who holds the environment."""
        who = in_words(holder) or "it says nothing of itself"
        super().__init__(f"another rollout of {environment} is under way: {who}")


@dataclass
class _Held:
    handle: int
    depth: int


_held: dict[str, _Held] = {}
"""The claims of this process: whoever holds one may claim it again."""


class Claim:
    """The right to roll out to an environment; use it as a context manager."""

    def __init__(self, environment: str, holder: Mapping[str, str]) -> None:
        """Name the claim; nothing is claimed yet.

        Args:
            environment: Such as `staging`.
            holder: What a refused rollout is told about this one.
        """
        self._environment = environment
        self._holder = holder

    def __enter__(self) -> Self:
        """Claim the environment.

        Raises:
            EnvironmentTakenError: When another process holds it.
            OSError: When the lock file cannot be used.
        """
        held = _held.get(self._environment)
        if held is None:
            held = _held[self._environment] = _Held(_lock(self._environment), 0)
        held.depth += 1
        self.describe(self._holder)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the environment back."""
        held = _held[self._environment]
        held.depth -= 1
        if held.depth == 0:
            _describe(held.handle, {})
            os.close(held.handle)
            del _held[self._environment]

    def describe(self, holder: Mapping[str, str]) -> None:
        """Replace what a refused rollout is told."""
        _describe(_held[self._environment].handle, holder)


def in_words(holder: Mapping[str, str]) -> str:
    """What a holder says of itself as a part of a sentence; empty where it says nothing."""
    return ", ".join(f"{name} {value}" for name, value in holder.items())


def claim_file(environment: str) -> Path:
    """The lock file of an environment on this host."""
    folder = os.environ.get(CLAIM_FOLDER_VARIABLE) or DEFAULT_CLAIM_FOLDER
    return Path(folder) / f"canary-pipeline-{environment}.lock"


def last_holder(environment: str) -> dict[str, str]:
    """What the holder says of itself; a killed one has had no time to take it back."""
    try:
        handle = os.open(claim_file(environment), os.O_RDONLY)
    except OSError:
        return {}
    try:
        return _read(handle)
    finally:
        os.close(handle)


def current_holder(environment: str) -> dict[str, str] | None:
    """What whoever holds the environment says of itself, or None where nobody does.

    The lock itself is not tried, so that asking never keeps a rollout from starting: whoever
    gives the environment back takes back what it said, and whoever was killed has no process.
    """
    holder = last_holder(environment)
    pid = holder.get("pid", "")
    return holder if pid.isdigit() and lives(int(pid)) else None


def lives(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and alive
        return True
    return True


def _lock(environment: str) -> int:
    handle = _open(claim_file(environment))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read(handle)
        os.close(handle)
        raise EnvironmentTakenError(environment, holder) from None
    return handle


def _open(path: Path) -> int:
    """Open the lock file for everybody's use; another user's may only be readable."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    os.fchmod(handle, 0o666)  # the umask must not lock other users out
    return handle


def _describe(handle: int, holder: Mapping[str, str]) -> None:
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_RDWR:
        data = json.dumps(dict(holder)).encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, data, 0)


def _read(handle: int) -> dict[str, str]:
    try:
        value = json.loads(os.pread(handle, 65536, 0))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
