"""What a rollout asks of staging over HTTP: a cohort's probe, and snapshots.

Every exchange is bounded in time and size: it runs in a thread of its own and is given up at its
deadline, whatever holds it (a name server, a byte a second, an endless body).
"""

import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import requests
import urllib3.exceptions
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url, urldefragauth

from canary_pipeline.rollout.credentials import Token, TokenUnavailableError
from canary_pipeline.rollout.plan import Endpoints, SnapshotKind, origin, shown_url

EVALUATE_PATH = "/api/v1/control/runtime-routing/evaluate"
MOST_RESPONSE_BYTES = 1024 * 1024
MOST_SNAPSHOT_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 65536
HTTP_OK = 200

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # what is kept as evidence is what was sent
    "User-Agent": "canary-pipeline",
}

FailureKind = Literal[
    "timeout",
    "dns_failure",
    "connection_refused",
    "connection_reset",
    "tls_failure",
    "connection_failed",
    "token_unavailable",
]


@dataclass(frozen=True)
class Failure:
    """Why no complete answer came.

    Attributes:
        kind: What went wrong, as a word.
        message: The same as a sentence that holds neither token nor URL secrets.
    """

    kind: FailureKind
    message: str


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Attributes:
        status: The status code; redirects are answers, and not followed.
        body: The body, or its beginning where it was longer than what was asked for.
        complete: Whether the body was not cut.
        content_type: The `Content-Type` header, or an empty string.
    """

    status: int
    body: bytes
    complete: bool
    content_type: str = ""

    def json_object(self) -> dict[str, Any] | None:
        """The body as a JSON object, or None where it is something else."""
        try:
            value = self.json()
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: When it is something else.
        """
        try:
            return json.loads(self.body.decode("utf-8"), parse_constant=_refuse)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _refuse(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


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


class ControlPlane:
    """The staging side, as one rollout sees it."""

    def __init__(self, endpoints: Endpoints, token: Token | None, timeout_seconds: float) -> None:
        """Know where to ask; nothing is sent yet.

        Args:
            endpoints: The URLs.
            token: Read again before every request that carries it.
            timeout_seconds: The whole time that one exchange may take.
        """
        self._endpoints = endpoints
        self._token = token
        self._timeout_seconds = timeout_seconds

    def evaluate(self, percent: int) -> Answer | Failure:
        """Ask the control service how it would route this cohort's thread."""
        base = self._endpoints.control_base_url
        if base is None or self._token is None:
            raise ValueError("a probe needs the control base URL and a token")
        payload = {
            "thread_id": f"staging-canary-thread-{percent}",
            "cohort_key": f"user:staging-canary-{percent}",
        }
        return self._exchange("POST", below(base, EVALUATE_PATH), MOST_RESPONSE_BYTES, payload)

    def snapshot(self, kind: SnapshotKind) -> bytes | str | None:
        """Read one snapshot.

        Returns:
            The body, or a sentence that says why there is none, or None where its URL is not
            configured.
        """
        url = self._endpoints.snapshot_url(kind)
        if url is None:
            return None
        answer = self._exchange("GET", url, MOST_SNAPSHOT_BYTES)
        if isinstance(answer, Failure):
            return f"{shown_url(url)}: {answer.message}"
        problem = _snapshot_problem(answer)
        return answer.body if problem is None else f"{shown_url(url)}: {problem}"

    def _exchange(
        self, method: str, url: str, most_bytes: int, payload: dict[str, str] | None = None
    ) -> Answer | Failure:
        try:
            auth = self._auth_for(url)
        except TokenUnavailableError as error:
            return Failure("token_unavailable", str(error))
        deadline = time.monotonic() + self._timeout_seconds

        def exchange() -> Answer:
            return _request(method, url, payload, auth, most_bytes=most_bytes, deadline=deadline)

        return _within(self._timeout_seconds, exchange)

    def _auth_for(self, url: str) -> AuthBase:
        base = self._endpoints.control_base_url
        if self._token is not None and base is not None and origin(url) == origin(base):
            return _BearerAuth(self._token.read())
        user, password = get_auth_from_url(url)
        return HTTPBasicAuth(user, password) if user else _NoAuth()


def below(base: str, path: str) -> str:
    """The URL of a path below a base URL; a query of the base is kept."""
    head, mark, query = base.partition("?")
    return f"{head.rstrip('/')}{path}{mark}{query}"


def _snapshot_problem(answer: Answer) -> str | None:
    if not HTTP_OK <= answer.status < HTTP_OK + 100:
        return f"answered {answer.status}"
    if not answer.complete:
        return f"is longer than {MOST_SNAPSHOT_BYTES} bytes"
    try:
        answer.json()
    except ValueError:
        return "answered something that is not JSON"
    return None


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


def _within(seconds: float, exchange: Callable[[], Answer]) -> Answer | Failure:
    """Run an exchange in a thread that is given up after so many seconds."""
    outcome: queue.SimpleQueue[Answer | Failure] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(exchange())
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
