"""Where many hosts keep what they share: whole objects under keys, with conditional writes."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import uuid4

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


def open_store(url: str) -> ObjectStore:
    """Open a store, and try that it refuses what it must refuse.

    Args:
        url: `s3://bucket/prefix`, `gs://…` or `az://…`, with credentials from the environment
            (`AWS_ENDPOINT_URL` for a server of one's own), or `file:///shared/folder`.

    Raises:
        StoreUnusableError: When the URL is not accepted, or the store ignores conditions.
        StoreUnreachableError: When it does not answer.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise StoreUnusableError(
            f"the evidence URL ({parts.scheme}://…) holds more than a place: credentials belong "
            "into the environment, such as AWS_ACCESS_KEY_ID"
        )
    store: ObjectStore
    if parts.scheme == "file" and not parts.netloc:
        from canary_pipeline.outside.shared_folder import SharedFolder  # noqa: PLC0415 - as below

        store = SharedFolder(Path(unquote(parts.path)))
    elif parts.scheme in ("s3", "gs", "az") and parts.netloc:
        try:
            from canary_pipeline.outside.bucket import Bucket  # noqa: PLC0415 - an extra
        except ImportError:
            message = f"{url} needs the extra `cloud`: pip install 'canary-pipeline[cloud]'"
            raise StoreUnusableError(message) from None
        store = Bucket.opened(url)
    else:
        raise StoreUnusableError(
            f"the evidence URL {url!r} is none of s3://bucket/prefix, gs://bucket/prefix, "
            "az://container/prefix, file:///shared/folder"
        )
    _try_conditions(store, url)
    return store


def _try_conditions(store: ObjectStore, url: str) -> None:
    """Create an object twice, and swap a stale one: some servers do both without a word."""
    key = f"self-test/{uuid4()}"
    first = store.create(key, b"1")
    try:
        _require_refused(url, "creates an object twice", lambda: store.create(key, b"2"))
        try:
            store.swap(key, b"3", first)
        except ConflictError:
            message = f"{url} does not replace an object by its etag: use another store"
            raise StoreUnusableError(message) from None
        _require_refused(url, "replaces by a stale etag", lambda: store.swap(key, b"4", first))
    finally:
        with suppress(StoreUnreachableError):  # some who may write may not delete
            store.delete(key)


def _require_refused(url: str, what: str, write: Callable[[], str]) -> None:
    try:
        write()
    except ConflictError:
        return
    message = f"{url} {what}, so two hosts could roll out at once: use another store"
    raise StoreUnusableError(message)
