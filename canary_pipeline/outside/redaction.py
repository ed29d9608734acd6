"""What is secret, and every form in which others may print it.

Not known are a secret that is wrapped over lines, compressed, or written in part.
"""

import html
import json
import re
import shlex
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

REDACTED = b"[redacted]"

SHORTEST = 6
"""Characters of a secret that is replaced wherever it is seen. Shorter ones (`v=1`) would take
pieces out of words and numbers that have nothing to do with them."""


@dataclass(frozen=True)
class Hidden:
    """Secrets in all of their forms, the longest form first."""

    forms: tuple[bytes, ...] = ()

    def and_also(self, secrets: Iterable[str]) -> "Hidden":
        """These secrets too."""
        more = {form for secret in secrets for form in forms_of(secret)}
        return Hidden(tuple(sorted({*self.forms, *more}, key=lambda form: (-len(form), form))))

    def redacted(self, data: bytes) -> bytes:
        """The bytes without any secret."""
        found = [form for form in self.forms if form in data]
        return re.sub(b"|".join(map(re.escape, found)), REDACTED, data) if found else data

    def decided(self, data: bytes) -> tuple[bytes, bytes]:
        """What is to be said of the beginning of a stream, and what must wait for more of it."""
        whole = [form for form in self.forms if form in data]
        until, said, done = self._begun(data), bytearray(), 0
        for match in re.finditer(b"|".join(map(re.escape, whole)), data) if whole else ():
            if match.start() >= until:
                break
            said += data[done : match.start()] + REDACTED
            done = match.end()
        until = max(until, done)
        return bytes(said + data[done:until]), data[until:]

    def _begun(self, data: bytes) -> int:
        """Where a form begins that is cut by the end of the data; its end where none does."""
        longest = len(self.forms[0]) if self.forms else 1
        first = {form[0] for form in self.forms}
        for start in range(max(len(data) - longest + 1, 0), len(data)):
            if data[start] in first:
                rest = data[start:]
                if any(len(form) > len(rest) and form.startswith(rest) for form in self.forms):
                    return start
        return len(data)


def forms_of(secret: str) -> frozenset[bytes]:
    r"""A secret as it is, and as URLs, JSON, base64, HTML, Python and shells write it.

    Percent escapes come in both cases and with and without `/`, JSON's with and without `\/`, and
    base64 in both alphabets and at each of its three alignments, without the letters at its ends
    that also depend on what is beside it.
    """
    percent = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    texts = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    texts |= {text.replace("/", "\\/") for text in texts}
    texts |= {text.translate(_GO_ESCAPES) for text in texts}
    texts |= percent | {re.sub("%..", lambda escape: escape[0].lower(), text) for text in percent}
    texts |= {repr(secret)[1:-1], html.escape(secret), shlex.quote(secret)[1:-1]}
    data = secret.encode("utf-8", "surrogateescape")
    forms = {text.encode("utf-8", "surrogateescape") for text in texts} | _base64(data)
    return frozenset({form for form in forms if len(form) >= SHORTEST} | ({data} - {b""}))


_GO_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def _base64(data: bytes) -> set[bytes]:
    found = set()
    for shift, first in enumerate((0, 2, 3)):
        last = (shift + len(data)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            found.add(encode(bytes(shift) + data)[first:last])
    return found


_PLAIN = re.compile(
    r"[a-z_-]{1,15}[0-9]{0,2}"  # a word, such as an environment's name
    r"|[0-9.:_-]{1,15}"  # a number, an address, a date
    r"|[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]+)?"  # a host
)
"""What is no secret by itself and may be anywhere: to replace it would spoil the evidence."""


def url_secrets(url: str) -> frozenset[str]:
    """What a URL holds that is nobody else's business, as it is written and as it is meant.

    That is a password, a user's name, and the values of its query; of a notice URL such as
    `slack://…` also the parts of its path and what stands for its host. A plain word, number or
    host is a secret only together with its name: `env=staging`, `user:password`.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return frozenset({url})
    user_info, _, host = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    found = {user_info, password, *_telling(user)}
    for pair in parts.query.split("&"):
        found |= _telling(pair.partition("=")[2]) or {pair}
    if parts.scheme not in ("http", "https"):
        found |= {part for piece in re.split("[/:]", host + parts.path) for part in _telling(piece)}
    meant = {meaning(text) for text in found for meaning in (str, unquote, unquote_plus)}
    return frozenset(text for text in meant if len(text) >= SHORTEST)


def _telling(value: str) -> set[str]:
    return set() if len(value) < SHORTEST or _PLAIN.fullmatch(value) else {value}
