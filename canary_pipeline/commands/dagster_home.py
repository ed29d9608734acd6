"""Where the commands keep their Dagster instance, and with it the history of rollouts."""

import os
import tempfile
from importlib import metadata, resources
from pathlib import Path

from canary_pipeline.commands.exits import BadInputError

VARIABLE = "DAGSTER_HOME"

READY = ".canary-pipeline.ready"
"""Holds the version of Dagster that has set up the storage."""


def default_home(name: str = "dagster") -> Path:
    """The folder of a user's instance of this name; the first where nobody sets `DAGSTER_HOME`."""
    import platformdirs  # noqa: PLC0415 - not needed where DAGSTER_HOME is set

    return platformdirs.user_state_path("canary-pipeline") / name


def use_home() -> Path:
    """Make sure that `DAGSTER_HOME` names an instance that is ready, and return its folder.

    Two commands that start at once on a new machine wait for each other here: Dagster's own
    set-up of a new folder is not made for two.

    Raises:
        BadInputError: When the folder cannot be made or written.
    """
    home = Path(os.environ.get(VARIABLE) or default_home()).absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        message = f"{VARIABLE} is {str(home)!r} ({error.strerror}); accepted: a folder to write to"
        raise BadInputError(message) from None
    os.environ[VARIABLE] = str(home)
    from filelock import FileLock  # noqa: PLC0415 - keeps --help fast

    with FileLock(home / ".canary-pipeline.lock"):
        configuration = home / "dagster.yaml"
        if not configuration.exists():
            text = resources.files("canary_pipeline").joinpath("instance.yaml").read_text("utf-8")
            configuration.write_text(text, encoding="utf-8")
        ready, version = home / READY, metadata.version("dagster")
        if not ready.exists() or ready.read_text(encoding="utf-8") != version:
            _set_up_storage()
            ready.write_text(version, encoding="utf-8")
    return home


def _set_up_storage() -> None:
    import dagster as dg  # noqa: PLC0415 - keeps --help fast

    with dg.DagsterInstance.get() as instance:
        instance.get_runs(limit=1)
        instance.get_asset_keys(limit=1)
