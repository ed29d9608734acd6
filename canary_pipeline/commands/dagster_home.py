"""Where the commands keep their Dagster instance, and with it the history of rollouts."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from canary_pipeline.commands.exits import BadInputError
from canary_pipeline.model.decision import Decision
from canary_pipeline.model.environment import Environment
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import default_state_folder

if TYPE_CHECKING:
    import dagster as dg

VARIABLE = "DAGSTER_HOME"
CONFIGURATION = "dagster.yaml"

BEFORE = {"57cfba36cd524b7ccbbfd9e5cdc1b523f99bfdeb56df7a931387474577b6b1dc"}
"""The digests of what older versions have written as a home's configuration."""

READY = ".canary-pipeline.ready"
"""Holds the version of Dagster that has set up the storage."""


def default_home(name: str = "dagster") -> Path:
    """The folder of a user's instance of this name; the first where nobody sets `DAGSTER_HOME`."""
    return default_state_folder() / name


def use_home() -> Path:
    """Make sure that `DAGSTER_HOME` names an instance that is ready, and return its folder.

    Two commands that start at once on a new machine wait for each other here: Dagster's own
    set-up of a new folder is not made for two.

    Raises:
        BadInputError: When the folder cannot be made or written.
    """
    home = Path(os.environ.get(VARIABLE) or default_home()).absolute()
    os.environ[VARIABLE] = str(home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
        with FileLock(home / ".canary-pipeline.lock"):
            _make_ready(home)
    except OSError as error:
        accepted = "a folder to write to, with room, on a file system with locks"
        message = f"{VARIABLE} is {str(home)!r} ({error.strerror or error}); accepted: {accepted}"
        raise BadInputError(message) from None
    return home


def _make_ready(home: Path) -> None:
    configuration = home / CONFIGURATION
    if not configuration.exists() or _is_of_an_older_version(configuration):
        text = resources.files("canary_pipeline").joinpath("instance.yaml").read_text("utf-8")
        configuration.write_text(text, encoding="utf-8")
    ready, version = home / READY, metadata.version("dagster")
    if not ready.exists() or ready.read_text(encoding="utf-8") != version:
        from canary_pipeline.orchestration.storage import set_up  # noqa: PLC0415 - imports dagster

        set_up()
        ready.write_text(version, encoding="utf-8")


def _is_of_an_older_version(configuration: Path) -> bool:
    """Whether a home has what an older version has written there, and nobody has changed since."""
    return sha256(configuration.read_bytes()).hexdigest() in BEFORE


def tell_dagster(environment: Environment, evidence: Evidence, decision: Decision) -> None:
    """Tell Dagster, where there is an instance, of what was decided without a run of it."""
    with _instance() as instance:
        if instance is not None:
            from canary_pipeline.orchestration.runs import tell_decision  # noqa: PLC0415 - dagster

            tell_decision(instance, environment, evidence, decision)


def end_dead_runs(environment: Environment) -> None:
    """End the runs of dead rollouts in Dagster, where there is an instance."""
    with _instance() as instance:
        if instance is not None:
            from canary_pipeline.orchestration.dead_runs import fail_dead_runs  # noqa: PLC0415

            fail_dead_runs(instance, environment)


@contextmanager
def _instance() -> Iterator["dg.DagsterInstance | None"]:
    """The instance, or None where there is none yet, or it cannot be opened."""
    home = Path(os.environ.get(VARIABLE) or default_home())
    if not (home / CONFIGURATION).is_file():
        yield None
        return
    import dagster as dg  # noqa: PLC0415 - keeps --help fast

    with ExitStack() as stack:
        instance = None
        with suppress(Exception):  # what cannot be told is in the folder all the same
            instance = stack.enter_context(dg.DagsterInstance.from_config(str(home.absolute())))
        yield instance
