"""No secret is written in any of its forms, however the stream that holds it is cut."""

import base64
import html
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.outside.redaction import url_secrets
from canary_pipeline.outside.token import FixedToken, Redactor, TokenFile
from canary_pipeline_tests.conftest import TOKEN

AWKWARD = "to/k+en=\"a\\b'c<d>&~e"


def as_go(text: str) -> str:
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text))


@pytest.mark.parametrize(
    "write",
    [
        str,
        quote,
        lambda text: quote(text, safe=""),
        lambda text: re.sub("%..", lambda escape: escape[0].lower(), quote(text)),
        lambda text: re.sub("%..", lambda escape: escape[0].lower(), quote(text, safe="")),
        quote_plus,
        json.dumps,
        lambda text: json.dumps(text).replace("/", "\\/"),
        as_go,
        repr,
        html.escape,
        shlex.quote,
    ],
)
@pytest.mark.parametrize("secret", [AWKWARD, TOKEN, "pässword 漢字"])
def test_a_secret_is_hidden_however_it_is_written(secret: str, write: Callable[[str], str]) -> None:
    written = write(secret)
    inner = written[1:-1] if written[0] in "\"'" else written

    assert Redactor(None, [secret]).text(f"<<{inner}>>") == "<<[redacted]>>"


@given(st.binary(max_size=5), st.binary(max_size=5), st.booleans())
def test_a_secret_is_hidden_in_base64(before: bytes, after: bytes, urls: bool) -> None:  # noqa: FBT001
    encode = base64.urlsafe_b64encode if urls else base64.b64encode

    hidden = Redactor(FixedToken(AWKWARD)).data(encode(before + AWKWARD.encode() + after))

    assert hidden.count(b"[redacted]") == 1
    assert len(hidden) <= len(b"[redacted]") + 4 * (len(before) // 3 + len(after) // 3 + 2)


PIECES = st.sampled_from(
    [b"abcabc", b"abcabcd", b"abca", b"bcabc", b"%2F/abc", b"\\/", b"YWJjYWJj", b"[redacted]", b"x"]
)


@given(st.lists(PIECES | st.binary(max_size=4), max_size=12), st.data())
def test_a_stream_is_redacted_the_same_wherever_it_is_cut(
    pieces: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    redactor = Redactor(FixedToken("abcabc"), ["abcabcd", "/abcabc", "bcabc/abc"])
    said: list[bytes] = []

    stream = redactor.stream(said.append)
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        stream.write(whole[start:end])
    stream.close()

    assert b"".join(said) == redactor.data(whole)
    assert b"abcabc" not in b"".join(said)


def test_what_cannot_begin_a_secret_is_handed_on_at_once() -> None:
    said: list[bytes] = []
    stream = Redactor(FixedToken(TOKEN)).stream(said.append)

    stream.write(b"a line\n")
    stream.write(b"another line, and tok")
    assert b"".join(said) == b"a line\nanother line, and "
    stream.write(b"tik")
    assert b"".join(said).endswith(b"toktik")


def test_a_renewed_token_is_hidden_and_the_old_one_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-token")
    redactor = Redactor(TokenFile(file))
    file.write_text("second-token")

    assert redactor.text("first-token second-token") == "[redacted] [redacted]"
    file.unlink()
    assert redactor.text("first-token second-token") == "[redacted] [redacted]"


def test_short_secrets_are_left_alone_but_not_a_short_token() -> None:
    assert Redactor(FixedToken("ab"), ["12345"]).text("ab 12345 YWI=") == "[redacted] 12345 YWI="


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("https://host/path", set()),
        ("https://host/x?v=1", set()),
        (
            "https://n4me5x:p4ssw0rd@host:8443/x?key=qu3ry5&a",
            {"n4me5x:p4ssw0rd", "n4me5x", "p4ssw0rd", "qu3ry5"},
        ),
        ("https://staging:hunter@host/", {"staging:hunter", "hunter"}),
        (
            "https://user:p%40ss@host/",
            {"user:p%40ss", "user:p@ss", "p%40ss"},  # `p@ss` alone is too short
        ),
        ("https://ghp_0123abcd@host/", {"ghp_0123abcd"}),
        (
            "https://host/?env=staging&for=3600000&of=a.example.org:80&key=qu3ry",
            {"env=staging", "for=3600000", "of=a.example.org:80", "key=qu3ry"},
        ),
        ("https://host/?key=A9%2Fb8c7", {"A9%2Fb8c7", "A9/b8c7"}),
        (
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/",
            {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"},
        ),
        ("json://127.0.0.1:8080/hook", set()),
        ("http://[broken", {"http://[broken"}),
    ],
)
def test_what_is_secret_in_a_url(url: str, secrets: set[str]) -> None:
    assert url_secrets(url) == secrets
