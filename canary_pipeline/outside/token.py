"""The auth token: where it is read, and how it is kept out of everything that is written."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

REDACTED = "[redacted]"


class TokenUnavailableError(Exception):
    """The token cannot be read or used. The message never holds the token itself."""


@dataclass(frozen=True)
class FixedToken:
    """A token given as a value, by flag or environment."""

    value: str = field(repr=False)

    def read(self) -> str:
        """Return the token.

        Raises:
            TokenUnavailableError: When it cannot be sent as an HTTP header.
        """
        return _usable(self.value, "the auth token")


@dataclass(frozen=True)
class TokenFile:
    """A token kept in a file, which whoever renews it may replace at any time."""

    path: Path

    def read(self) -> str:
        """Return what the file holds now.

        Raises:
            TokenUnavailableError: When the file cannot be read or holds no usable token.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            message = f"the token file {self.path} cannot be read: {why}"
            raise TokenUnavailableError(message) from None
        return _usable(text.strip(), f"the token file {self.path}")


Token = FixedToken | TokenFile


def _usable(value: str, name: str) -> str:
    if not value:
        message = f"{name} is empty"
        raise TokenUnavailableError(message)
    if not all("!" <= character <= "~" for character in value):
        message = f"{name} holds a character that an HTTP header cannot carry (value not shown)"
        raise TokenUnavailableError(message)
    return value


class Redactor:
    """Replaces every token seen so far with `[redacted]`.

    A token file is read again for each use, so a token that was renewed a moment ago is known.
    """

    def __init__(self, token: Token | None) -> None:
        """Know the token as it is now, so that it is hidden even after it was renewed."""
        self._token = token
        self._seen: set[bytes] = set()
        self.notice()

    def notice(self) -> None:
        """Take note of the token as it is now; to be called often while others may see it."""
        self._secrets()

    def text(self, text: str) -> str:
        """The text without any token, and without what cannot be written as UTF-8."""
        return self.data(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def data(self, data: bytes) -> bytes:
        """The bytes without any token."""
        for secret in self._secrets():
            data = data.replace(secret, REDACTED.encode())
        return data

    def stream(self, write: Callable[[bytes], object]) -> "RedactingStream":
        """A writer that hands everything on to `write`, even a token cut across two chunks."""
        return RedactingStream(self, write)

    def longest(self) -> int:
        """The length of the longest token known, in bytes."""
        return max((len(secret) for secret in self._secrets()), default=0)

    def _secrets(self) -> list[bytes]:
        if self._token is not None:
            try:
                value = self._token.read()
            except TokenUnavailableError:
                pass  # nothing new to hide; what was seen stays hidden
            else:
                forms = (value, quote(value, safe=""), json.dumps(value)[1:-1])
                self._seen |= {form.encode() for form in forms}
        return sorted(self._seen, key=len, reverse=True)


class RedactingStream:
    """Redacts a stream of chunks, holding back the few bytes that may begin a token."""

    def __init__(self, redactor: Redactor, write: Callable[[bytes], object]) -> None:
        self._redactor = redactor
        self._write = write
        self._held = b""

    def write(self, chunk: bytes) -> None:
        """Take the next chunk."""
        data = self._redactor.data(self._held + chunk)
        keep = max(self._redactor.longest() - 1, 0)
        cut = max(len(data) - keep, 0)
        self._write(data[:cut])
        self._held = data[cut:]

    def close(self) -> None:
        """Hand on what was held back."""
        self._write(self._redactor.data(self._held))
        self._held = b""
