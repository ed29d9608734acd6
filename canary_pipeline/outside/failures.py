"""Why an exchange failed, in our own words: an exception's text may hold the whole URL."""

import http.client
import re
import socket
import ssl
from collections.abc import Callable

from urllib3 import exceptions

from canary_pipeline.model.text import foreign
from canary_pipeline.outside.answers import Failure, FailureKind
from canary_pipeline.outside.tls import TlsFileError

CONNECT_SHARE = 3
"""An address that swallows everything is given up after a third of the time: one host often has
two addresses, of which the second may answer."""

ENDLESS_INTERIM = "interim answers without end"


def timed_out(seconds: float) -> Failure:
    """Nothing complete came in time."""
    return Failure("timeout", f"no complete answer within {seconds:g} s")


def failure_of(error: BaseException, seconds: float) -> Failure:
    """Say what went wrong in our own words: an exception's text may hold the whole URL."""
    causes = _causes(error)
    through = "the proxy: " if _first(causes, exceptions.ProxyError) else ""
    if _first(causes, TimeoutError) and _first(causes, exceptions.ConnectTimeoutError):
        each = f"{seconds / CONNECT_SHARE:.3g} s for each address"
        return Failure("timeout", f"{through}no connection could be made ({each})")
    if _first(causes, (exceptions.ReadTimeoutError, TimeoutError)):
        return timed_out(seconds)
    known = _known_failure(causes)
    if known is not None:
        return Failure(known.kind, f"{through}{known.message}")
    name = type(causes[-1]).__name__
    return Failure("connection_failed", f"{through}the exchange failed ({name})")


def _known_failure(causes: list[BaseException]) -> Failure | None:
    for kinds, kind, say in _FAILURES:
        cause = _first(causes, kinds)
        message = None if cause is None else say(cause)
        if message is not None:
            return Failure(kind, message)
    return None


Kinds = type[BaseException] | tuple[type[BaseException], ...]


def _first(causes: list[BaseException], kinds: Kinds) -> BaseException | None:
    return next((cause for cause in causes if isinstance(cause, kinds)), None)


def _refused_tunnel(error: BaseException) -> str | None:
    status = re.match(r"Tunnel connection failed: (\d{3})\b", str(error))
    return f"it answered {status[1]} instead of connecting" if status else None


def _unreadable(error: BaseException) -> str | None:
    """What http.client found wrong with an answer's head."""
    if isinstance(error, http.client.RemoteDisconnected):
        return None
    if isinstance(error, http.client.BadStatusLine):
        return "what answered does not speak HTTP"
    told = {
        "got more than 100 headers": "the answer has more than 100 headers",
        ENDLESS_INTERIM: "interim answers came without end",
    }
    if isinstance(error, http.client.LineTooLong):
        return "a header of the answer is longer than 65536 bytes"
    return told.get(str(error))


def _tls_problem(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {foreign(error.verify_message)}"
    reason = foreign(getattr(error, "reason", None) or "certificate or protocol")
    return f"no secure connection could be made (TLS: {reason})"


_FAILURES: tuple[tuple[Kinds, FailureKind, Callable[[BaseException], str | None]], ...] = (
    (TlsFileError, "tls_failure", str),
    (OSError, "connection_failed", _refused_tunnel),
    (
        exceptions.ProxySchemeUnknown,
        "connection_failed",
        lambda _: "the environment names a proxy that is neither http nor https",
    ),
    (
        (socket.gaierror, exceptions.NameResolutionError),
        "dns_failure",
        lambda _: "the host name cannot be resolved",
    ),
    (ConnectionRefusedError, "connection_refused", lambda _: "the connection was refused"),
    (ssl.SSLError, "tls_failure", _tls_problem),
    (http.client.HTTPException, "connection_failed", _unreadable),
    (
        (ConnectionError, exceptions.ProtocolError),
        "connection_reset",
        lambda _: "the connection was closed before the answer was complete",
    ),
)


def _causes(error: BaseException) -> list[BaseException]:
    """An exception and everything that led to it, as urllib3 nests it."""
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        item = pending.pop(0)
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            reason = getattr(item, "reason", None)
            pending += [item.__cause__, item.__context__, reason, *item.args]
    return found
