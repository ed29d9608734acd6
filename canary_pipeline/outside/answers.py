"""What staging answers to one exchange: something, or why nothing complete came."""

import json
from dataclasses import dataclass
from typing import Any, Literal

HTTP_OK = 200

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
        location: Where a redirect leads, on one line and without URL secrets.
        note: A word on a body that could not be unpacked; empty otherwise.
    """

    status: int
    body: bytes
    complete: bool
    content_type: str = ""
    location: str | None = None
    note: str = ""

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
            return json.loads(self.body.decode("utf-8-sig"), parse_constant=_refuse)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def routing_driver_missing(data: dict[str, Any] | None) -> str | None:
    """Why a JSON answer to a probe may not be the control service's, as a sentence, or None.

    Args:
        data: The body as an object; None where it is something else, which is another warning.
    """
    inner = {} if data is None else data.get("data")
    if data is None or (isinstance(inner, dict) and isinstance(inner.get("driver"), str)):
        return None
    return "the answer names no data.driver: something else than the control service may answer"


def _refuse(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's
