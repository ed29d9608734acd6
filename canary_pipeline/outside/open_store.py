"""Opening the store that a URL names, and trying that it keeps what hosts rely on."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from canary_pipeline.outside.object_store import (
    ConflictError,
    ObjectStore,
    StoreUnreachableError,
    StoreUnusableError,
)
from canary_pipeline.outside.shared_folder import SharedFolder


def open_store(url: str, *, tries: bool = True) -> ObjectStore:
    """Open a store, and try that it refuses what it must refuse.

    Args:
        url: `s3://bucket/prefix`, `gs://…` or `az://…`, with credentials from the environment
            (`AWS_ENDPOINT_URL` for a server of one's own), or `file:///shared/folder`.
        tries: Whether to try that, by writing; who only reads need not, and may not be able to.

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
        store = SharedFolder(Path(unquote(parts.path)), writes=tries)
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
    if tries:
        _try_conditions(store, url)
    return store


def _try_conditions(store: ObjectStore, url: str) -> None:
    """Create an object twice, and swap a stale one: some servers do both without a word."""
    key = f"self-test/{uuid4()}"
    try:
        first = _written(store, key, b"1", lambda: store.create(key, b"1"))
        _require_refused(url, "creates an object twice", lambda: store.create(key, b"2"))
        try:
            _written(store, key, b"3", lambda: store.swap(key, b"3", first))
        except ConflictError:
            message = f"{url} does not replace an object by its etag: use another store"
            raise StoreUnusableError(message) from None
        _require_refused(url, "replaces by a stale etag", lambda: store.swap(key, b"4", first))
    finally:
        with suppress(StoreUnreachableError):  # some who may write may not delete
            store.delete(key)


def _written(store: ObjectStore, key: str, data: bytes, write: Callable[[], str]) -> str:
    """Write what nobody else writes; a conflict may be with our own write, its answer lost."""
    try:
        return write()
    except ConflictError:
        found = store.get(key)
        if found is None or found.data != data:
            raise
        return found.etag


def _require_refused(url: str, what: str, write: Callable[[], str]) -> None:
    try:
        write()
    except ConflictError:
        return
    message = f"{url} {what}, so two hosts could roll out at once: use another store"
    raise StoreUnusableError(message)
