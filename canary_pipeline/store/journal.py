"""What this host knows of an environment beyond any rollout's folder.

Which rollout changed staging last and what it owes, which rollout is the newest, and where rollouts
keep their folders: a rollout that died elsewhere is found by this.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import platformdirs
from pydantic import ValidationError

from canary_pipeline.model.plan import Percent, Recorded
from canary_pipeline.model.rows import LiveRouting
from canary_pipeline.settings import SettingError
from canary_pipeline.store.writing import write_whole

VARIABLE = "CANARY_PIPELINE_STATE_DIR"

MOST_ROOTS = 100
"""Folders that hold rollouts' folders, the newest ones."""


class StateUnusableError(OSError):
    """What this host remembers cannot be kept; the message says what to set."""


class Owed(Recorded):
    """A cohort that a rollout made live and has not taken back.

    Attributes:
        folder: The rollout's folder.
        percent: The cohort that it applied last.
        before: What was live before it.
    """

    folder: Path
    percent: Percent
    before: LiveRouting


class State(Recorded):
    """All that is known of one environment.

    Attributes:
        newest: The folder of the newest rollout.
        newest_started_at: When that was opened.
        owed: What is live by a rollout.
        roots: The folders below which rollouts keep theirs, newest last.
    """

    newest: Path | None = None
    newest_started_at: datetime | None = None
    owed: Owed | None = None
    roots: tuple[Path, ...] = ()


def default_state_folder() -> Path:
    """Where this user keeps state, where nothing else is set.

    Raises:
        SettingError: When this user has no home folder.
    """
    with suppress(RuntimeError):
        found = platformdirs.user_state_path("canary-pipeline")
        if found.is_absolute():
            return found
    accepted = "a folder to write to, where the user has no home folder"
    raise SettingError("XDG_STATE_HOME", "not set", accepted)


def state_folder() -> Path:
    """Where this user keeps what belongs to no rollout's folder.

    Raises:
        SettingError: When nothing says where.
    """
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else default_state_folder()


class Journal:
    """The journal of one environment on this host, of this user."""

    def __init__(self, environment: str) -> None:
        """Name the environment; nothing is read yet."""
        self._path = state_folder() / "environments" / f"{environment}.json"

    def read(self) -> State:
        """What is known; nothing where the journal is missing or cannot be read."""
        try:
            return State.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return State()

    def opened(self, folder: Path, started_at: datetime) -> None:
        """Note that a rollout has begun, which speaks for the environment from now on."""

        def note(state: State) -> State:
            roots = [root for root in state.roots if root != folder.parent]
            return state.model_copy(
                update={
                    "newest": folder,
                    "newest_started_at": started_at,
                    "roots": (*roots, folder.parent)[-MOST_ROOTS:],
                }
            )

        self._update(note)

    def applied(self, folder: Path, percent: int, before: LiveRouting) -> None:
        """Note that a rollout is about to make a cohort live."""
        owed = Owed(folder=folder, percent=percent, before=before)
        self._update(lambda state: state.model_copy(update={"owed": owed}))

    def settled(self, folder: Path) -> None:
        """Note that a rollout owes nothing any more: it was allowed, or rolled back."""
        self._update(
            lambda state: (
                state.model_copy(update={"owed": None})
                if state.owed is not None and state.owed.folder == folder
                else state
            )
        )

    def newer_than(self, folder: Path) -> Path | None:
        """The rollout that speaks for the environment instead of that of this folder, or None."""
        newest = self.read().newest
        return newest if newest is not None and newest != folder and newest.is_dir() else None

    def _update(self, change: Callable[[State], State]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                write_whole(self._path, change(self.read()).model_dump_json(indent=2).encode())
        except OSError as error:
            helps = f"set {VARIABLE} to a folder that you can write, on a file system with locks"
            message = f"{self._path} cannot be kept ({error.strerror or error}): {helps}"
            raise StateUnusableError(message) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
