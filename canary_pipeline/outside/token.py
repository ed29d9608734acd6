"""The auth token: where it is read, and how it is kept out of everything that is written."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from canary_pipeline.outside.redaction import SHORTEST, Hidden


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
    """Replaces every secret known so far with `[redacted]`; may be used by several threads.

    A token file is read again for each use, so a token that was renewed a moment ago is known.
    """

    def __init__(self, token: Token | None, secrets: Iterable[str] = ()) -> None:
        """Know the token as it is now, so that it is hidden even after it was renewed.

        Args:
            token: Hidden however short it is.
            secrets: What else must not be read, such as `url_secrets`; those of less than
                `SHORTEST` characters are left alone.
        """
        self._token = token
        self._known = {secret for secret in secrets if len(secret) >= SHORTEST}
        self._hidden = Hidden().and_also(self._known)
        self._learning = threading.Lock()
        self.notice()

    def notice(self) -> None:
        """Take note of the token as it is now; to be called often while others may see it."""
        if self._token is None:
            return
        try:
            value = self._token.read()
        except TokenUnavailableError:
            return  # nothing new to hide; what was seen stays hidden
        with self._learning:
            if value not in self._known:
                self._hidden = self._hidden.and_also([value])
                self._known.add(value)

    def text(self, text: str) -> str:
        """The text without any secret, and without what cannot be written as UTF-8."""
        return self.data(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def data(self, data: bytes) -> bytes:
        """The bytes without any secret."""
        self.notice()
        return self._hidden.redacted(data)

    def decided(self, data: bytes) -> tuple[bytes, bytes]:
        """The beginning of a stream without any secret, and what must wait for more of it."""
        self.notice()
        return self._hidden.decided(data)

    def stream(self, write: Callable[[bytes], object]) -> "RedactingStream":
        """A writer that hands everything on to `write`, even a secret cut across two chunks."""
        return RedactingStream(self, write)


class RedactingStream:
    """Redacts a stream of chunks, holding back what may be the beginning of a secret."""

    def __init__(self, redactor: Redactor, write: Callable[[bytes], object]) -> None:
        self._redactor = redactor
        self._write = write
        self._held = b""

    def write(self, chunk: bytes) -> None:
        """Take the next chunk."""
        said, self._held = self._redactor.decided(self._held + chunk)
        self._write(said)

    def close(self) -> None:
        """Hand on what was held back."""
        self._write(self._redactor.data(self._held))
        self._held = b""
