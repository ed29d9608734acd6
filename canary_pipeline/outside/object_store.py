"""Where many hosts keep what they share: whole objects under keys, with conditional writes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

PAGE = 1000
"""Keys that are listed at once."""


class StoreUnusableError(Exception):
    """A store that cannot be used as it is configured: bad input, before anything is written."""


class StoreUnreachableError(Exception):
    """The store does not answer, or refuses for now; the message holds no secret."""


class ConflictError(Exception):
    """A conditional write was refused: the object is there already, or is another by now."""


@dataclass(frozen=True)
class Stored:
    """An object as it was read.

    Attributes:
        data: All of its bytes.
        etag: Names these bytes, for a later `swap`; the same bytes have the same one.
        modified: When it was written, by the store's own clock.
    """

    data: bytes
    etag: str
    modified: datetime


class ObjectStore(Protocol):
    """Whole objects under keys such as `leases/staging.json`.

    Every method raises `StoreUnreachableError`. A write that ends so, or in a `ConflictError`,
    may have been made all the same (an answer was lost, and the write repeated): read it back.
    The first to be called may find out, too, that the store cannot be used as it is configured.
    """

    def get(self, key: str) -> Stored | None:
        """Read an object, or None where there is none."""
        ...

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, whatever was there."""
        ...

    def create(self, key: str, data: bytes) -> str:
        """Write an object and return its etag.

        Raises:
            ConflictError: When it is there already.
        """
        ...

    def swap(self, key: str, data: bytes, etag: str) -> str:
        """Write an object in place of the one with this etag, and return the new etag.

        Raises:
            ConflictError: When it is another one by now, or none.
        """
        ...

    def keys(self, prefix: str, after: str = "") -> Iterator[list[str]]:
        """The keys below a folder such as `rollouts/staging`, in pages, past the key `after`."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below a folder, in order."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        ...
