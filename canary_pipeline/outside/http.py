"""One HTTP exchange, bounded in time and size.

It runs in a thread of its own and is given up at its deadline, whatever holds it (a name server, a
byte a second, an endless body). Import this module only where something is asked: requests takes
its time.
"""

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable

import requests
import urllib3.exceptions
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url, urldefragauth

from canary_pipeline.outside.answers import Answer, Failure, FailureKind

CHUNK_BYTES = 65536

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # what is kept as evidence is what was sent
    "User-Agent": "canary-pipeline",
}


def exchange(
    method: str,
    url: str,
    *,
    bearer: str | None,
    payload: dict[str, str] | None,
    most_bytes: int,
    timeout_seconds: float,
) -> Answer | Failure:
    """Ask once.

    Args:
        method: `GET` or `POST`.
        url: May hold user info, which is sent where no bearer is.
        bearer: The token to send, or None.
        payload: Sent as JSON, where there is one.
        most_bytes: Of the body; what is longer is cut.
        timeout_seconds: The whole time that the exchange may take.
    """
    auth = _auth_for(url, bearer)
    deadline = time.monotonic() + timeout_seconds

    def ask() -> Answer:
        return _request(method, url, payload, auth, most_bytes=most_bytes, deadline=deadline)

    return _within(timeout_seconds, ask)


def _auth_for(url: str, bearer: str | None) -> AuthBase:
    if bearer is not None:
        return _BearerAuth(bearer)
    user, password = get_auth_from_url(url)
    return HTTPBasicAuth(user, password) if user else _NoAuth()


class _BearerAuth(AuthBase):
    """Sends the token; being an auth object, it also keeps `~/.netrc` from replacing it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _NoAuth(AuthBase):
    """Sends nothing, not even what `~/.netrc` may hold for the host."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _request(
    method: str,
    url: str,
    payload: dict[str, str] | None,
    auth: AuthBase,
    *,
    most_bytes: int,
    deadline: float,
) -> Answer:
    with (
        requests.Session() as session,
        session.request(
            method,
            urldefragauth(url),
            json=payload,
            auth=auth,
            headers=_HEADERS,
            timeout=max(deadline - time.monotonic(), 0.001),
            allow_redirects=False,
            stream=True,
        ) as response,
    ):
        body = bytearray()
        for chunk in response.iter_content(CHUNK_BYTES):
            body += chunk
            if len(body) > most_bytes:
                break
            if time.monotonic() >= deadline:
                raise requests.Timeout
        return Answer(
            response.status_code,
            bytes(body[:most_bytes]),
            len(body) <= most_bytes,
            response.headers.get("Content-Type", ""),
        )


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer | Failure:
    """Run an exchange in a thread that is given up after so many seconds."""
    outcome: queue.SimpleQueue[Answer | Failure] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(ask())
        except Exception as error:  # noqa: BLE001 - every failure of an exchange is an outcome
            outcome.put(_failure(error, seconds))

    threading.Thread(target=work, name="exchange", daemon=True).start()
    try:
        return outcome.get(timeout=seconds)
    except queue.Empty:
        return _timed_out(seconds)


def _timed_out(seconds: float) -> Failure:
    return Failure("timeout", f"no complete answer within {seconds:g} s")


def _failure(error: BaseException, seconds: float) -> Failure:
    """Say what went wrong in our own words: an exception's text may hold the whole URL."""
    causes = _causes(error)
    if any(isinstance(cause, (requests.Timeout, TimeoutError)) for cause in causes):
        return _timed_out(seconds)
    for kinds, kind, message in _FAILURES:
        if any(isinstance(cause, kinds) for cause in causes):
            return Failure(kind, message)
    return Failure("connection_failed", f"the exchange failed ({type(causes[-1]).__name__})")


_FAILURES: tuple[
    tuple[type[BaseException] | tuple[type[BaseException], ...], FailureKind, str], ...
]
_FAILURES = (
    (
        (socket.gaierror, urllib3.exceptions.NameResolutionError),
        "dns_failure",
        "the host name cannot be resolved",
    ),
    (ConnectionRefusedError, "connection_refused", "the connection was refused"),
    (
        (ssl.SSLError, requests.exceptions.SSLError),
        "tls_failure",
        "no secure connection could be made (TLS certificate or protocol)",
    ),
    (
        (
            ConnectionError,
            urllib3.exceptions.ProtocolError,
            requests.exceptions.ChunkedEncodingError,
        ),
        "connection_reset",
        "the connection was closed before the answer was complete",
    ),
)


def _causes(error: BaseException) -> list[BaseException]:
    """An exception and everything that led to it, as requests and urllib3 nest it."""
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        item = pending.pop(0)
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            reason = getattr(item, "reason", None)
            pending += [item.__cause__, item.__context__, reason, *item.args]
    return found
