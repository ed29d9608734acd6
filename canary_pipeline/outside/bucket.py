"""An object store that is a bucket: of a cloud, or of a server that speaks its protocol."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import ObjectStore as Remote
from obstore.store import from_url

from canary_pipeline.outside.cloud_variables import http_is_allowed, without_empty_ones
from canary_pipeline.outside.object_store import (
    PAGE,
    ConflictError,
    Stored,
    StoreUnreachableError,
    StoreUnusableError,
)


class Bucket:
    """Objects below a prefix of a bucket."""

    def __init__(self, remote: Remote, url: str) -> None:
        """Use what `obstore` has opened; the URL is for error messages."""
        self._remote = remote
        self._url = url

    @classmethod
    def opened(cls, url: str) -> Self:
        """Open a bucket without asking it anything yet.

        A request is given up long before a lease ends: 5 s to connect, 15 s in all.

        Raises:
            StoreUnusableError: When the URL or the environment's configuration is not accepted.
        """
        allow_http = url.startswith("s3:") and http_is_allowed()
        try:
            with _panics_told(url), without_empty_ones():
                remote = from_url(
                    url,
                    client_options={
                        "allow_http": allow_http,
                        "connect_timeout": "5s",
                        "timeout": "15s",
                    },
                    retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=15)},
                )
        except (BaseError, ValueError) as error:
            raise StoreUnusableError(f"{url} cannot be opened: {_in_a_line(error)}") from None
        return cls(remote, url)

    def get(self, key: str) -> Stored | None:
        """Read an object, or None where there is none."""
        with self._answering():
            try:
                found = obstore.get(self._remote, key)
            except FileNotFoundError:
                return None
            data, meta = bytes(found.bytes()), found.meta
        return Stored(data, meta["e_tag"] or "", meta["last_modified"])

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, whatever was there."""
        with self._answering():
            obstore.put(self._remote, key, content)

    def create(self, key: str, data: bytes) -> str:
        """Write an object that is not there yet."""
        with self._answering():
            return obstore.put(self._remote, key, data, mode="create")["e_tag"] or ""

    def swap(self, key: str, data: bytes, etag: str) -> str:
        """Write an object in place of the one with this etag."""
        with self._answering():
            try:
                return obstore.put(self._remote, key, data, mode={"e_tag": etag})["e_tag"] or ""
            except FileNotFoundError:
                raise ConflictError(key) from None

    def keys(self, prefix: str, after: str = "") -> Iterator[list[str]]:
        """The keys below a folder in pages."""
        with self._answering():
            for page in obstore.list(self._remote, prefix, offset=after or None, chunk_size=PAGE):
                yield [item["path"] for item in page]

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below a folder."""
        with self._answering():
            found = obstore.list_with_delimiter(self._remote, prefix)["common_prefixes"]
        return sorted(path.rpartition("/")[2] for path in found)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        with self._answering(), suppress(FileNotFoundError):
            obstore.delete(self._remote, key)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            with _panics_told(self._url):
                yield
        except (AlreadyExistsError, PreconditionError):
            raise ConflictError(self._url) from None
        except (BaseError, OSError, RuntimeError) as error:
            message = f"the evidence store {self._url} does not answer: {_in_a_line(error)}"
            raise StoreUnreachableError(message) from None


@contextmanager
def _panics_told(url: str) -> Iterator[None]:
    """Turn a panic of `obstore`, by which it meets a configuration that it cannot use, into words.

    Raises:
        StoreUnusableError: When the body panics.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3's own, which cannot be imported
            raise
        why = f"{_in_a_line(error)}; what is wrong may be the endpoint, the region or a credential"
        raise StoreUnusableError(f"{url} cannot be used as it is configured: {why}") from None


def _in_a_line(error: BaseException) -> str:
    """An error's first line without addresses, which may hold signatures, or a server's page."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"\S+://\S+", "…", line.partition("<")[0])[:200].strip()
