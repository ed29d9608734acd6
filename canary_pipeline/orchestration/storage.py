"""Dagster's storage: set up once, and its failures said in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError


class StorageFailedError(OSError):
    """Dagster cannot keep its history; the message says why."""


def set_up() -> None:
    """Let Dagster make the storage of its instance.

    Raises:
        StorageFailedError: When it cannot be made.
    """
    with storage_told(), dg.DagsterInstance.get() as instance:
        instance.get_runs(limit=1)
        instance.get_asset_keys(limit=1)


@contextmanager
def storage_told() -> Iterator[None]:
    """Turn a failure of the storage, which is a page of SQL, into a sentence.

    Raises:
        StorageFailedError: When the body fails for it.
    """
    try:
        yield
    except SQLAlchemyError as error:
        why = error.orig if isinstance(error, DBAPIError) else type(error).__name__
        raise StorageFailedError(f"Dagster's storage: {why}") from error
