"""The clouds' own variables, which `obstore` reads: an empty one counts as unset, as ours do."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

from canary_pipeline.model.urls import shown_url
from canary_pipeline.outside.object_store import StoreUnusableError

OF_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_")

ENDPOINT = "AWS_ENDPOINT_URL"
ALLOW_HTTP = "AWS_ALLOW_HTTP"

LOOPBACK = ("127.0.0.1", "::1", "localhost")

_guard = threading.Lock()


@contextmanager
def without_empty_ones() -> Iterator[None]:
    """Hide empty variables from native code while the body runs.

    `os.environ` keeps them, and with it every process that is started with a copy of it.
    """
    empty = [name for name, value in os.environ.items() if not value and name.startswith(OF_CLOUDS)]
    with _guard:
        for name in empty:
            os.unsetenv(name)
        try:
            yield
        finally:
            for name in empty:
                os.putenv(name, "")


def http_is_allowed() -> bool:
    """Whether an S3 server may be asked without TLS: one on this host, or where somebody says so.

    Raises:
        StoreUnusableError: When the server that is named is none, or must be asked with TLS.
    """
    allowed = os.environ.get(ALLOW_HTTP, "").lower() in ("1", "on", "true", "y", "yes")
    given = os.environ.get(ENDPOINT)
    if not given:
        return allowed
    server = _server(given)
    allowed = allowed or server.hostname in LOOPBACK
    if server.scheme == "http" and not allowed:
        message = f"{ENDPOINT} is {shown_url(given)}; accepted: https, or http on this host"
        raise StoreUnusableError(f"{message}; {ALLOW_HTTP}=true allows http on a network of yours")
    return allowed


def _server(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    accepted = "an http or https URL with a host"
    raise StoreUnusableError(f"{ENDPOINT} is not usable (value not shown); accepted: {accepted}")
