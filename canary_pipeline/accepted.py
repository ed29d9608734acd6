"""Kinds of values: how the text of a setting is read, and the words for what is accepted."""

import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from canary_pipeline.model.limits import ACCEPTED as LIMITS_ACCEPTED
from canary_pipeline.model.limits import parse_limits
from canary_pipeline.model.plan import parse_cohorts

LONGEST_SECONDS = 999_999_999
"""Some thirty years: every deadline up to here is a date that can be written down."""


@dataclass(frozen=True)
class Accepted:
    """A kind of value.

    Attributes:
        parse: Turns text that is not empty into a value; raises ValueError or OSError for
            anything else.
        words: What is accepted, as the end of a sentence.
    """

    parse: Callable[[str], Any]
    words: str


def whole_number(lowest: int, highest: int = LONGEST_SECONDS, of: str = "") -> Accepted:
    """Base-10 whole numbers without signs or leading zeros; blanks around them are allowed."""

    def parse(text: str) -> int:
        digits = text.strip(" \t")
        if not re.fullmatch(r"0|[1-9][0-9]{0,8}", digits) or not lowest <= int(digits) <= highest:
            raise ValueError(text)
        return int(digits)

    return Accepted(parse, f"a whole number{of} from {lowest} to {highest}")


def seconds(lowest: int, highest: int = LONGEST_SECONDS) -> Accepted:
    """Whole seconds."""
    return whole_number(lowest, highest, " of seconds")


def one_of(**values: object) -> Accepted:
    """One of these words, each with what it means."""

    def parse(text: str) -> object:
        if text not in values:
            raise ValueError(text)
        return values[text]

    return Accepted(parse, " or ".join(values))


def groups_of(names: tuple[str, ...]) -> Accepted:
    """Groups of these names: commas within a group, semicolons between groups."""

    def parse(text: str) -> tuple[tuple[str, ...], ...]:
        groups = tuple(
            tuple(name.strip(" \t") for name in group.split(",")) for group in text.split(";")
        )
        used = [name for group in groups for name in group]
        if not set(used) <= set(names) or len(set(used)) < len(used):
            raise ValueError(text)
        return groups

    return Accepted(
        parse,
        "gates with commas inside a group and semicolons between groups, each gate once, of "
        f"{', '.join(names)}",
    )


def _matching(pattern: str, words: str) -> Accepted:
    def parse(text: str) -> str:
        if not text.isprintable() or not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return Accepted(parse, words)


def _url(text: str) -> str:
    parts = urlsplit(text)
    readable = all("!" <= character <= "~" for character in text)
    if not readable or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(text)
    if parts.port == 0 or "#" in text:  # reading the port also refuses one that is no number
        raise ValueError(text)
    return text


def _receiver(text: str) -> str:
    if not text.isprintable() or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://.+", text):
        raise ValueError(text)
    if text.lower().startswith(("http://", "https://")):  # other URLs are apprise's to read
        parts = urlsplit(text)
        if not parts.hostname or parts.port == 0:
            raise ValueError(text)
    return text


def _path(text: str) -> Path:
    if "\0" in text:
        raise ValueError(text)
    text.encode("utf-8")  # what cannot be written down is refused, as a ValueError too
    return Path(text)


def _absolute_path(text: str) -> Path:
    return _path(text).absolute()


def _existing(kind: Callable[[Path], bool]) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        path = _absolute_path(text)
        if not kind(path):
            raise ValueError(text)
        return path

    return parse


def _limits(text: str) -> str:
    if not text.isprintable():
        raise ValueError(text)
    return ", ".join(map(str, parse_limits(text)))


def _is_readable(file: Path) -> bool:
    return file.is_file() and os.access(file, os.R_OK)


def _holds_authorities(file: Path) -> bool:
    return ssl.create_default_context(cafile=file).cert_store_stats()["x509"] > 0


def _holds_certificate(file: Path) -> bool:
    # Without a password given here, a key that has one would ask for it on the terminal.
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, password="none")  # noqa: S106
    return True  # anything else is an OSError


def _command(text: str) -> str:
    readable = all(character.isprintable() or character in "\n\t" for character in text)
    if not text.strip() or not readable:
        raise ValueError(text)
    return text


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except KeyError:  # unknown; what is malformed, or the name of a folder, is refused as it is
        raise ValueError(text) from None
    return text


COHORTS = Accepted(
    lru_cache(parse_cohorts),  # a thousand environments may name the same
    "whole numbers from 1 to 100, strictly increasing, such as 5,10,25,50,100",
)
URL = Accepted(_url, "an http or https URL with a host and without a fragment (#…)")
TOKEN = _matching(r"[!-~]+", "a token of visible ASCII characters")
PATH = Accepted(_path, "a path")
TOKEN_FILE = Accepted(_absolute_path, "the path of a readable file that holds the token")
FOLDER = Accepted(_existing(Path.is_dir), "the path of an existing folder")
FILE = Accepted(_existing(_is_readable), "the path of an existing file that can be read")
CA_BUNDLE = Accepted(_existing(_holds_authorities), "the path of a PEM file with certificates")
CLIENT_CERT = Accepted(
    _existing(_holds_certificate),
    "the path of a PEM file with a certificate and its key, without a password",
)
COMMAND = Accepted(_command, "a shell command without control characters")
SWITCH = one_of(true=True, false=False)
ON_BLOCK = one_of(rollback="rollback", hold="hold")
LIMITS = Accepted(_limits, LIMITS_ACCEPTED)
RECEIVER = Accepted(
    _receiver, "an http or https URL, a / in its password as %2F, or one that apprise knows"
)
CRON = _matching(r"@\w+|\S+( +\S+){4}", "a cron schedule such as '0 6 * * 1-5'")
TIMEZONE = Accepted(_timezone, "a time zone's name such as 'Europe/Berlin'")
STORE = _matching(
    r"(s3|gs|az)://[!-.0-~][!-~]*|file:///[!-~]*",
    "a URL such as s3://…, gs://…, az://… or file:///…",
)
