"""One rollout at a time on this host: of an environment, and of a rollout's folder.

A claim is a lock that the kernel drops with its process: a killed owner leaves nothing to clean
up, and a process with a dead owner's pid owns nothing. The lock file says who holds it. Asking
(`F_OFD_GETLK`) takes nothing, so it never keeps a rollout from starting.
"""

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from canary_pipeline.outside.file_lock import is_at, is_taken, take
from canary_pipeline.outside.process_identity import is_gone, this_process

CLAIM_FOLDER_VARIABLE = "CANARY_PIPELINE_CLAIM_DIR"
DEFAULT_CLAIM_FOLDER = "/tmp"  # noqa: S108 - the one folder that every user of a host shares
PROCESS = "process"  # under this a holder says which process it is; it is not for people
FOLDER_LOCK = ".claim"  # in a rollout's folder while somebody works on it


READER = {"started by": "a reader"}
"""What whoever only brings a folder up to date says of itself."""


class EnvironmentTakenError(Exception):
    """Another rollout of the environment, or in the folder, is under way; the message names it.

    Attributes:
        holder: What it says of itself.
    """

    def __init__(self, what: str, holder: Mapping[str, str]) -> None:
        """Say who holds what."""
        who = in_words(holder) or "it says nothing of itself"
        super().__init__(f"another rollout of {what} is under way: {who}")
        self.holder = dict(holder)


class ClaimUnusableError(Exception):
    """A lock file cannot be used here; the message says what to set."""

    def __init__(self, path: Path, error: OSError) -> None:
        """Say which file, why, and what helps."""
        helps = "use a folder that you can write, on a file system with locks"
        if path.name != FOLDER_LOCK:
            helps = f"set {CLAIM_FOLDER_VARIABLE} to a folder that everybody who rolls out on this "
            helps += "host can write and sets alike, on a file system with locks"
        super().__init__(f"the lock file {path} cannot be used ({error.strerror}): {helps}")


@dataclass
class _Held:
    handle: int
    depth: int = 0


_held: dict[Path, _Held] = {}
"""The claims of this process: whoever holds one may claim it again, from any thread."""
_guard = threading.RLock()


class Claim:
    """The right to roll out to an environment; use it as a context manager."""

    def __init__(
        self, environment: str, holder: Mapping[str, str], *, path: Path | None = None
    ) -> None:
        """Name the claim; nothing is claimed yet.

        Args:
            environment: Such as `staging`.
            holder: What a refused rollout is told about this one; its process is added.
            path: Another lock file than the environment's.
        """
        self._what, self._holder = environment, holder
        self._path = path or claim_file(environment)

    def __enter__(self) -> Self:
        """Claim the environment.

        Raises:
            EnvironmentTakenError: When another process holds it.
            ClaimUnusableError: When the lock file cannot be used.
        """
        with _guard:
            held = _held.get(self._path)
            if held is None:
                held = _held[self._path] = _Held(_lock(self._path, self._what))
            held.depth += 1
            self.describe(self._holder)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the environment back."""
        with _guard:
            held = _held[self._path]
            held.depth -= 1
            if held.depth == 0:
                _describe(held.handle, {})
                with suppress(OSError):  # evidence keeps no lock file
                    if self._path.name == FOLDER_LOCK and is_at(held.handle, self._path):
                        self._path.unlink()
                os.close(held.handle)
                del _held[self._path]

    def describe(self, holder: Mapping[str, str]) -> None:
        """Replace what a refused rollout is told."""
        _describe(
            _held[self._path].handle, {**holder, "pid": str(os.getpid()), PROCESS: this_process()}
        )

    def still_held(self) -> bool:
        """Whether the lock file is still the one that was locked; if not, others may have begun.

        A rollout asks now and then: who cleans the folder takes the claim away without a word.
        """
        with _guard:
            return self._path in _held and is_at(_held[self._path].handle, self._path)

    def hold_again(self) -> bool:
        """Lock the file anew if it was taken away; false only where somebody else has done so."""
        with _guard:
            if self.still_held():
                return True
            try:
                handle = _lock(self._path, self._what)
            except EnvironmentTakenError:
                return False
            except ClaimUnusableError:
                return True  # nobody else can lock it either
            os.close(_held[self._path].handle)
            _held[self._path].handle = handle
            self.describe(self._holder)
        return True


def lock_folder(folder: Path, holder: Mapping[str, str]) -> Claim:
    """The claim on a rollout's own folder, for services that do not see each other's `/tmp`."""
    return Claim(str(folder), holder, path=folder.absolute() / FOLDER_LOCK)


def in_words(holder: Mapping[str, str]) -> str:
    """What a holder says of itself as a part of a sentence; empty where it says nothing."""
    return ", ".join(f"{name} {value}" for name, value in holder.items() if name != PROCESS)


def claim_file(environment: str) -> Path:
    """The lock file of an environment on this host."""
    folder = os.environ.get(CLAIM_FOLDER_VARIABLE) or DEFAULT_CLAIM_FOLDER
    return Path(folder).absolute() / f"canary-pipeline-{environment}.lock"


def last_holder(environment: str) -> dict[str, str]:
    """What the last holder said of itself; a killed one has had no time to take it back."""
    with suppress(OSError):
        return _looked_at(claim_file(environment))[1]
    return {}


def killed_holder(environment: str) -> str:
    """The name of the process that was killed while it held an environment here; or empty.

    It said so in the lock file and had no time to take it back, the kernel has dropped its lock,
    and it is dead.
    """
    with suppress(OSError):
        taken, said = _looked_at(claim_file(environment))
        process = str(said.get(PROCESS, ""))  # anybody may have written the file
        if not taken and is_gone(process):
            return process
    return ""


def current_holder(environment: str) -> dict[str, str] | None:
    """What whoever holds the environment says of itself, or None where nobody does.

    Raises:
        ClaimUnusableError: When nobody can say.
    """
    return holder_of(claim_file(environment))


def holder_of(path: Path) -> dict[str, str] | None:
    """The same of a lock file, such as `FOLDER_LOCK` in a rollout's folder."""
    try:
        taken, holder = _looked_at(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClaimUnusableError(path, error) from None
    return holder if taken else None


def _lock(path: Path, what: str) -> int:
    """Lock the file that is at the path; one that was replaced meanwhile protects nobody."""
    try:
        while True:
            handle = _open(path)
            held = False
            try:
                if held := take(handle, path):
                    return handle
            finally:
                if not held:
                    os.close(handle)
            if (holder := holder_of(path)) is not None:
                raise EnvironmentTakenError(what, holder)
    except OSError as error:
        if isinstance(error, PermissionError) and (holder := holder_of(path)) is not None:
            raise EnvironmentTakenError(what, holder) from None  # another user's
        raise ClaimUnusableError(path, error) from None


def _open(path: Path) -> int:
    """Open the lock file for everybody's use, never through a link."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    with suppress(OSError):  # some network file systems refuse
        os.fchmod(handle, 0o666)  # the umask must not lock other users out
    return handle


def _describe(handle: int, holder: Mapping[str, str]) -> None:
    data = json.dumps(dict(holder)).encode()
    with suppress(OSError):  # a full disk: the lock is what counts
        os.pwrite(handle, data, 0)
        os.ftruncate(handle, len(data))


def _looked_at(path: Path) -> tuple[bool, dict[str, str]]:
    """Whether a lock file is locked, and what it says."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return is_taken(handle), _read(handle)
    finally:
        os.close(handle)


def _read(handle: int) -> dict[str, str]:
    """What a lock file says; while it is written anew it may be longer than its first value."""
    try:
        value, _ = json.JSONDecoder().raw_decode(os.pread(handle, 65536, 0).decode())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
