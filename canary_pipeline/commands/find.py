"""Finding the rollout that a command is about."""

from pathlib import Path

from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.commands.exits import BadInputError
from canary_pipeline.commands.shared import brought
from canary_pipeline.store.folder import Evidence


def find_rollout(name: str) -> Evidence:
    """The rollout of a folder, of a name that any host has published, or of a Dagster run id.

    Raises:
        BadInputError: When there is none.
    """
    # An empty name would be the current folder.
    evidence = (_in_folder(name) or _of_run(name)) if name else None
    if evidence is None:
        message = f"{name!r} is neither a rollout's folder nor the run id of one"
        raise BadInputError(message)
    return evidence


def _in_folder(name: str) -> Evidence | None:
    folder = brought(name) or Path(name).absolute()
    return Evidence(folder) if folder.is_dir() else None


def _of_run(name: str) -> Evidence | None:
    use_home()
    from canary_pipeline.orchestration.launch import rollout_of_run  # noqa: PLC0415 - imports dagster

    return rollout_of_run(name)
