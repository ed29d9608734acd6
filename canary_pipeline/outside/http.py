"""One HTTP exchange, bounded in time and size.

It runs in a thread of its own and is given up at its deadline, whatever holds it (a name server, a
byte a second, an endless body). Import this module only where something is asked: what it imports
takes its time.
"""

import http.client
import json
import logging
import queue
import socket
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urljoin

import urllib3
from requests.utils import (
    get_auth_from_url,
    get_environ_proxies,
    select_proxy,
    urldefragauth,
)

from canary_pipeline.model.text import foreign
from canary_pipeline.model.urls import shown_url
from canary_pipeline.outside.answers import Answer, Failure
from canary_pipeline.outside.failures import (
    CONNECT_SHARE,
    ENDLESS_INTERIM,
    failure_of,
    timed_out,
)
from canary_pipeline.outside.tls import Tls, client_context

CHUNK_BYTES = 65536
LOOK_UP_SECONDS = 0.2
"""How often an exchange that is waited for is looked at."""
_MOST_INTERIM = 100
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # what is kept as evidence is what was sent
    "User-Agent": "canary-pipeline",
}
# It logs URLs with all that they hold. To disable it would not last: a `dictConfig`, such as that
# of Dagster, enables every logger.
logging.getLogger("urllib3.connection").addFilter(lambda _: False)


def exchange(
    method: str,
    url: str,
    *,
    bearer: str | None,
    payload: dict[str, str] | None,
    most_bytes: int,
    timeout_seconds: float,
    tls: Tls = Tls(),  # noqa: B008 - frozen
    check_stop: Callable[[], None] = lambda: None,
) -> Answer | Failure:
    """Ask once.

    Args:
        method: `GET` or `POST`.
        url: May hold user info, which is sent where no bearer is.
        bearer: The token to send, or None.
        payload: Sent as JSON, where there is one.
        most_bytes: Of the body; what is longer is cut.
        timeout_seconds: The whole time that the exchange may take.
        tls: Whom to trust, and what to show who we are.
        check_stop: Called several times a second; what it raises gives the exchange up.
    """
    deadline = time.monotonic() + timeout_seconds

    def ask() -> Answer:
        headers = {**_HEADERS, **_authorization(url, bearer)}
        body = None
        if payload is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(payload).encode()
        with _manager(url, tls) as manager:
            return _request(
                manager, method, url, headers, body, most_bytes=most_bytes, deadline=deadline
            )

    return _within(timeout_seconds, ask, check_stop)


def _authorization(url: str, bearer: str | None) -> dict[str, str]:
    """What to show; `~/.netrc` is never asked."""
    if bearer is not None:
        return {"Authorization": f"Bearer {bearer}"}
    return _basic("Authorization", url)


def _basic(header: str, url: str) -> dict[str, str]:
    user, password = get_auth_from_url(url)
    if not user:
        return {}
    return {header: f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def _manager(url: str, tls: Tls) -> urllib3.PoolManager:
    """Whatever connects: directly, or through the proxy that the environment names."""
    proxy = select_proxy(url, get_environ_proxies(url, no_proxy=None))
    proxy = proxy if proxy is None or "://" in proxy else f"http://{proxy}"
    secure = any(each and each.lower().startswith("https:") for each in (url, proxy))
    context = client_context(tls) if secure else None  # reading what is trusted takes its time
    if proxy is None:
        manager = urllib3.PoolManager(ssl_context=context)
    else:
        manager = urllib3.ProxyManager(
            urldefragauth(proxy),
            proxy_headers=_basic("Proxy-Authorization", proxy),
            ssl_context=context,
            proxy_ssl_context=context,
        )
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager


class _FinalResponse(http.client.HTTPResponse):
    """The answer itself: interim ones (102 Processing, 103 Early Hints) are read past."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not (http.HTTPStatus.PROCESSING <= status < http.HTTPStatus.OK):
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(ENDLESS_INTERIM)


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _FinalResponse

    def _new_conn(self) -> socket.socket:
        """Connect; what follows (a proxy, TLS) may take all of the time again."""
        connected = super()._new_conn()
        connected.settimeout((connected.gettimeout() or 0) * CONNECT_SHARE)
        return connected


class _TlsConnection(_Connection, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _request(
    manager: urllib3.PoolManager,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    most_bytes: int,
    deadline: float,
) -> Answer:
    left = max(deadline - time.monotonic(), 0.001)
    response = manager.request(
        method,
        urldefragauth(url),
        headers=headers,
        body=body,
        timeout=urllib3.Timeout(connect=left / CONNECT_SHARE, read=left),
        redirect=False,
        retries=False,
        preload_content=False,
        decode_content=False,
    )
    received = bytearray()
    while len(received) <= most_bytes and (chunk := response.read1(CHUNK_BYTES)):
        received += chunk
        if time.monotonic() >= deadline:
            raise TimeoutError
    data, note = _decoded(bytes(received), response.headers.get("Content-Encoding", ""), most_bytes)
    return Answer(
        response.status,
        data[:most_bytes],
        complete=max(len(received), len(data)) <= most_bytes,
        content_type=response.headers.get("Content-Type", ""),
        location=_shown_location(url, response.headers.get("Location")),
        note=note,
    )


def _decoded(body: bytes, encoding: str, most_bytes: int) -> tuple[bytes, str]:
    """What a server compressed unasked, and a word where that cannot be undone."""
    if not body or encoding.strip().lower() in ("", "identity"):
        return body, ""
    unpacking = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is
    try:
        data = unpacking.decompress(body, most_bytes + 1)
    except zlib.error:
        data = b""
    if unpacking.eof or len(data) > most_bytes:
        return data, ""
    named = foreign(encoding, 40)
    return body, f"its body came as {named}, cannot be unpacked, and is kept as it came"


def _shown_location(url: str, location: str | None) -> str | None:
    """Where a redirect leads, without its secrets and on one line."""
    if location is None:
        return None
    location = location.encode("latin-1").decode("utf-8", "replace")
    try:
        return foreign(shown_url(urljoin(url, location)))
    except ValueError:
        return "an address that is none"


def _within(
    seconds: float, ask: Callable[[], Answer], check_stop: Callable[[], None]
) -> Answer | Failure:
    """Run an exchange in a thread that is given up after so many seconds."""
    outcome: queue.SimpleQueue[Answer | Failure] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(ask())
        except Exception as error:  # noqa: BLE001 - every failure of an exchange is an outcome
            outcome.put(failure_of(error, seconds))

    threading.Thread(target=work, name="exchange", daemon=True).start()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        check_stop()
        with suppress(queue.Empty):
            return outcome.get(timeout=min(left, LOOK_UP_SECONDS))
    return timed_out(seconds)
