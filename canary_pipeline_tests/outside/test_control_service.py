"""What can go wrong on the way to staging: each within its time, in words without secrets."""

import gzip
import json
import logging
import logging.config
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.outside.answers import Answer, Failure, routing_driver_missing
from canary_pipeline.outside.control_service import ControlService, below
from canary_pipeline.outside.endpoints import Endpoints
from canary_pipeline.outside.token import FixedToken, Redactor, TokenFile
from canary_pipeline.planning import resolve
from canary_pipeline_tests.conftest import TOKEN
from canary_pipeline_tests.fake_staging import (
    Behaviour,
    FakeStaging,
    answer,
    endless,
    never,
    redirect,
    reset_midway,
    trickle,
)

TIMEOUT = 5.0
PAYLOAD = {"thread_id": "staging-canary-thread-5", "cohort_key": "user:staging-canary-5"}
SHORT = 0.5


def ask(base: str, timeout: float = TIMEOUT) -> Answer | Failure:
    """Probe cohort 5; the answer must come within the timeout, give or take a moment."""
    started = time.monotonic()
    found = ControlService(Endpoints(base), FixedToken(TOKEN), timeout).evaluate(PAYLOAD)
    assert time.monotonic() - started < timeout + 1
    return found


@contextmanager
def raw_server(*pieces: bytes, pause: float = 0.0) -> Iterator[str]:
    """A server that sends these bytes whatever it is asked, pausing between them."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
                    if done.wait(pause):
                        return
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass  # what is closed unread may be reset before it was heard
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    done.set()
    listener.close()


def as_sent(head: str, body: bytes) -> bytes:
    """A whole answer in bytes."""
    return f"HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("percent", [1, 5, 100])
def test_a_probe_is_exactly_what_the_contract_says(percent: int, staging: FakeStaging) -> None:
    payload = resolve(STAGING, {}).plan.probe_payload(percent)
    found = ControlService(Endpoints(staging.url), FixedToken(TOKEN), 5).evaluate(payload)

    assert isinstance(found, Answer)
    assert found.status == 200
    [request] = staging.seen
    assert request.method == "POST"
    assert request.path == "/api/v1/control/runtime-routing/evaluate"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == {
        "thread_id": f"staging-canary-thread-{percent}",
        "cohort_key": f"user:staging-canary-{percent}",
    }


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, '{"error": {"code": "unauthorized"}}', "application/json"),
        (429, "", "text/plain"),
        (500, "<h1>oops</h1>", "text/html"),
        (503, "<h1>maintenance</h1>", "text/html"),
    ],
)
def test_every_status_is_an_answer_that_is_kept(
    status: int, body: str, kind: str, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(status, body, kind)

    assert ask(staging.url) == Answer(status, body.encode(), complete=True, content_type=kind)


@pytest.mark.parametrize(
    ("elsewhere", "shown"),
    [
        ("/elsewhere", "{here}/elsewhere"),
        ("http://127.0.0.1:9/elsewhere", "http://127.0.0.1:9/elsewhere"),
        ("https://n4me:p4ssw0rd@host/x?token=qu3ry#part", "https://host/x?…"),
        ("/line\u2028two\x1b[2J", "{here}/line\\u2028two\\x1b[2J"),
        ("http://[broken", "an address that is none"),
    ],
)
def test_a_redirect_is_an_answer_that_is_not_followed(
    elsewhere: str, shown: str, staging: FakeStaging
) -> None:
    staging.probes[5] = redirect(elsewhere.encode().decode("latin-1"))

    found = ask(staging.url)

    assert isinstance(found, Answer)
    assert found.status == 302
    assert found.location == shown.format(here=staging.url)
    assert len(staging.seen) == 1


@pytest.mark.parametrize("behaviour", [answer(500, ""), answer(503, ""), reset_midway])
def test_a_probe_that_fails_is_not_tried_again(behaviour: Behaviour, staging: FakeStaging) -> None:
    staging.probes[5] = behaviour

    ask(staging.url)

    assert staging.probed == [5]


def test_headers_that_come_a_byte_at_a_time_are_given_up_in_time() -> None:
    pieces = [b"HTTP/1.1 200 OK\r\n", *[b"X"] * 200]

    with raw_server(*pieces, pause=0.2) as url:
        found = ask(url, SHORT)

    assert found == Failure("timeout", "no complete answer within 0.5 s")


@pytest.mark.parametrize("behaviour", [never, trickle], ids=["never", "trickle"])
def test_no_complete_answer_is_given_up_in_time(behaviour: Behaviour, staging: FakeStaging) -> None:
    staging.probes[5] = behaviour

    found = ask(staging.url, SHORT)

    assert found == Failure("timeout", "no complete answer within 0.5 s")
    assert staging.probed == [5]


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("http://user:p4ssw0rd@127.0.0.1:9/?key=p4ssw0rd", "connection_refused"),
        ("http://user:p4ssw0rd@no-such-host.invalid/?key=p4ssw0rd", "dns_failure"),
        ("http://user:p4ssw0rd@a%zz/?key=p4ssw0rd", "connection_failed"),
        ("http://user:p4ssw0rd@a..b/?key=p4ssw0rd", "connection_failed"),
    ],
)
def test_a_failure_says_what_happened_without_secrets(base: str, kind: str) -> None:
    found = ask(base)

    assert isinstance(found, Failure)
    assert found.kind == kind
    assert "p4ssw0rd" not in found.message
    assert TOKEN not in found.message


SECRETS = ("n4me", "p4ssw0rd", "qu3ry", TOKEN)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 101 + b"\r\n",
        b"n4me p4ssw0rd qu3ry " + TOKEN.encode() + b"\r\n\r\n",
    ],
    ids=["nothing", "half", "long header", "headers", "echo"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_failure_tells_a_secret(sent: bytes, scheme: str) -> None:
    with raw_server(sent) as url:
        base = url.replace("http://", f"{scheme}://n4me:p4ssw0rd@") + "/?key=qu3ry"
        probe = ask(base)
        with raw_server(sent) as other:
            there = other.replace("http://", f"{scheme}://n4me:p4ssw0rd@") + "/m?key=qu3ry"
            snapshot = ControlService(Endpoints(base, there), FixedToken(TOKEN), TIMEOUT).snapshot(
                "runtime_metrics"
            )

    assert isinstance(probe, Failure)
    assert isinstance(snapshot, str)
    assert not any(secret in probe.message + snapshot for secret in SECRETS)
    assert f"{scheme}://127.0.0.1" in snapshot


def test_a_header_that_cannot_be_read_does_not_log_the_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        with raw_server(as_sent("X: y\r\nno header", b"{}")) as url:
            found = ask(f"{url}/?key=qu3ry")

        assert isinstance(found, Answer)
        assert "qu3ry" not in caplog.text
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})  # as Dagster


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", "connection_reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "connection_reset"),
    ],
)
def test_an_answer_that_breaks_off(sent: bytes, kind: str) -> None:
    with raw_server(sent) as url:
        found = ask(url)

    assert isinstance(found, Failure)
    assert found.kind == kind


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"this is not HTTP\r\n\r\n", "what answered does not speak HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
            "a header of the answer is longer than 65536 bytes",
        ),
        (
            b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 101 + b"\r\n",
            "the answer has more than 100 headers",
        ),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200, "interim answers came without end"),
    ],
)
def test_an_answer_that_cannot_be_read_says_why(sent: bytes, message: str) -> None:
    with raw_server(sent) as url:
        assert ask(url) == Failure("connection_failed", message)


@pytest.mark.parametrize("interim", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_interim_answers_are_read_past(interim: str) -> None:
    hint = f"HTTP/1.1 {interim}\r\nLink: </x>; rel=preload\r\n\r\n".encode()
    with raw_server(hint, hint, as_sent("X: y", b"{}")) as url:
        found = ask(url)

    assert found == Answer(200, b"{}", complete=True)


def test_tls_to_a_port_that_speaks_none() -> None:
    with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        found = ask(url.replace("http:", "https:"))

    assert isinstance(found, Failure)
    assert found.kind == "tls_failure"


def test_an_endless_body_is_cut(staging: FakeStaging) -> None:
    staging.probes[5] = endless

    found = ask(staging.url)

    assert isinstance(found, Answer)
    assert (len(found.body), found.complete) == (1024 * 1024, False)


def test_a_body_of_just_the_longest_length_is_complete(staging: FakeStaging) -> None:
    staging.probes[5] = answer(200, "x" * 1024 * 1024)

    found = ask(staging.url)

    assert isinstance(found, Answer)
    assert (len(found.body), found.complete) == (1024 * 1024, True)


@pytest.mark.parametrize(
    ("charset", "body", "value"),
    [
        ("utf-8", b'{"a": "\xc3\xa9"}', {"a": "é"}),
        ("utf-16", b'{"a": 1}', {"a": 1}),
        ("no-such-thing", b'{"a": 1}', {"a": 1}),
        ("utf-8", b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ("utf-8", b'{"a": "\xe9"}', None),
        ("utf-8", b"\xff\xfe{}", None),
    ],
)
def test_json_is_utf_8_whatever_charset_is_claimed(
    charset: str, body: bytes, value: object
) -> None:
    with raw_server(as_sent(f"Content-Type: application/json; charset={charset}", body)) as url:
        found = ask(url)

    assert isinstance(found, Answer)
    assert found.body == body
    assert found.json_object() == value


# A time in it would be part of a test's name, which differs between processes.
PACKED = gzip.compress(b'{"a": 1}', mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body", "kept"),
    [
        ("gzip", PACKED, b'{"a": 1}'),
        ("deflate", zlib.compress(b'{"a": 1}'), b'{"a": 1}'),
        ("identity", b"{}", b"{}"),
        ("gzip", b"no gzip", b"no gzip"),
        ("gzip", PACKED[:-9], PACKED[:-9]),
        ("br", b"{}", b"{}"),
    ],
)
def test_a_body_that_is_compressed_unasked_keeps_its_status(
    encoding: str, body: bytes, kept: bytes
) -> None:
    with raw_server(as_sent(f"Content-Encoding: {encoding}", body)) as url:
        found = ask(url)

    packed = kept == body and encoding != "identity"
    note = f"its body came as {encoding}, cannot be unpacked, and is kept as it came"
    assert found == Answer(200, kept, complete=True, note=note if packed else "")


def test_a_body_that_unpacks_without_end_is_cut() -> None:
    bomb = gzip.compress(b"0" * 100_000_000)
    with raw_server(as_sent("Content-Encoding: gzip", bomb)) as url:
        found = ask(url)

    assert isinstance(found, Answer)
    assert (len(found.body), found.complete) == (1024 * 1024, False)


@pytest.mark.parametrize("body", ["", "[]", "{", "NaN", '"text"', "[" * 100_000])
def test_a_body_that_is_no_json_object(body: str, staging: FakeStaging) -> None:
    staging.probes[5] = answer(200, body)

    found = ask(staging.url)

    assert isinstance(found, Answer)
    assert found.json_object() is None


def test_netrc_never_replaces_the_token(
    staging: FakeStaging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))

    found = ask(staging.url)

    assert isinstance(found, Answer)
    assert found.status == 200
    ControlService(Endpoints(runtime_metrics_url=f"{staging.url}/metrics"), None, 5).snapshot(
        "runtime_metrics"
    )
    assert "Authorization" not in staging.seen[-1].headers


def test_a_token_file_that_vanished_is_a_failure(staging: FakeStaging, tmp_path: Path) -> None:
    token = TokenFile(tmp_path / "gone")

    found = ControlService(Endpoints(staging.url), token, 5).evaluate(PAYLOAD)

    assert isinstance(found, Failure)
    assert found.kind == "token_unavailable"
    assert staging.seen == []


def test_a_token_file_is_read_before_every_request(staging: FakeStaging, tmp_path: Path) -> None:
    file = tmp_path / "token"
    url = f"{staging.url}/status"
    control_plane = ControlService(
        Endpoints(staging.url, control_status_url=url), TokenFile(file), 5
    )

    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        control_plane.evaluate(PAYLOAD)
        file.write_text(f"{token}-and-a-half\n")
        control_plane.snapshot("control_status")

    assert [request.headers["Authorization"] for request in staging.seen] == [
        "Bearer first",
        "Bearer first-and-a-half",
        "Bearer second",
        "Bearer second-and-a-half",
    ]


@pytest.mark.parametrize(
    ("base", "snapshot", "told"),
    [
        ("{here}", "{here}/status?x=1", f"Bearer {TOKEN}"),
        ("{here}/below", "{here}", f"Bearer {TOKEN}"),
        ("{here}", "{user}/status", f"Bearer {TOKEN}"),
        ("{here}", "{name}/status", None),
        ("{elsewhere}", "{here}/status", None),
        ("https://127.0.0.1:9", "{here}/status", None),
        (None, "{here}/status", None),
    ],
)
def test_the_token_is_sent_to_the_origin_of_the_control_base_only(
    base: str | None, snapshot: str, told: str | None, staging: FakeStaging
) -> None:
    urls = {
        "here": staging.url,
        "user": staging.url.replace("://", "://user:pass@"),
        "name": staging.url.replace("127.0.0.1", "localhost"),
        "elsewhere": "http://127.0.0.1:9",
    }
    endpoints = Endpoints(base and base.format(**urls), snapshot.format(**urls))

    ControlService(endpoints, FixedToken(TOKEN), 5).snapshot("runtime_metrics")

    [request] = staging.seen
    assert request.headers.get("Authorization") == told
    assert TOKEN not in request.path


@pytest.mark.parametrize("body", ['{"a": 1}', "[]", "0", '"text"', '{"a": {"b": [1, 2.5]}}\n'])
@pytest.mark.parametrize("status", [200, 201, 299])
def test_a_snapshot_is_kept_as_it_was_sent(status: int, body: str, staging: FakeStaging) -> None:
    staging.snapshots["/m"] = answer(status, body)

    found = ControlService(Endpoints(None, f"{staging.url}/m"), None, 5).snapshot("runtime_metrics")

    assert found == body.encode()


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (answer(302, "{}"), "answered 302"),
        (redirect("http://127.0.0.1:9/x?a=qu3ry"), "answered 302 to http://127.0.0.1:9/x?…"),
        (answer(401, "{}"), "answered 401"),
        (answer(500, "{}"), "answered 500"),
        (answer(204, ""), "answered something that is not JSON"),
        (answer(200, ""), "answered something that is not JSON"),
        (answer(200, "<html>"), "answered something that is not JSON"),
        (answer(200, '{"a": 1'), "answered something that is not JSON"),
        (answer(200, "Infinity"), "answered something that is not JSON"),
        (reset_midway, "the connection was closed before the answer was complete"),
        (endless, "is longer than 16777216 bytes"),
    ],
)
def test_a_snapshot_that_is_not_kept_says_why_and_where(
    behaviour: Behaviour, why: str, staging: FakeStaging
) -> None:
    staging.snapshots["/m?key=qu3ry"] = behaviour
    endpoints = Endpoints(None, f"{staging.url}/m?key=qu3ry")

    found = ControlService(endpoints, None, TIMEOUT).snapshot("runtime_metrics")

    assert found == f"{staging.url}/m?…: {why}"
    assert len(staging.seen) == 1


def test_a_snapshot_that_never_comes_is_given_up_in_time(staging: FakeStaging) -> None:
    staging.snapshots["/m"] = never
    endpoints = Endpoints(None, f"{staging.url}/m")

    found = ControlService(endpoints, None, SHORT).snapshot("runtime_metrics")

    assert found == f"{staging.url}/m: no complete answer within 0.5 s"


def test_a_snapshot_that_nobody_configured_is_not_taken(staging: FakeStaging) -> None:
    control_plane = ControlService(Endpoints(staging.url), FixedToken(TOKEN), 5)

    assert control_plane.snapshot("runtime_metrics") is None
    assert control_plane.snapshot("control_status") is None
    assert staging.seen == []


def test_netrc_never_replaces_the_token_of_a_snapshot(
    staging: FakeStaging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    endpoints = Endpoints(staging.url, control_status_url=f"{staging.url}/status")

    ControlService(endpoints, FixedToken(TOKEN), 5).snapshot("control_status")

    assert staging.seen[-1].headers["Authorization"] == f"Bearer {TOKEN}"


def test_user_info_of_a_snapshot_url_is_its_basic_auth(staging: FakeStaging) -> None:
    url = staging.url.replace("://", "://user:pass@") + "/metrics"

    ControlService(Endpoints(runtime_metrics_url=url), None, 5).snapshot("runtime_metrics")

    assert staging.seen[-1].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://host", "http://host/path"),
        ("http://host/", "http://host/path"),
        ("http://host/below/", "http://host/below/path"),
        ("http://host/below?x=1", "http://host/below/path?x=1"),
    ],
)
def test_the_probe_lies_below_the_base(base: str, url: str) -> None:
    assert below(base, "/path") == url


@pytest.mark.parametrize("body", ["null", "0", "[]", '""'])
def test_any_json_is_a_snapshot(body: str, staging: FakeStaging) -> None:
    staging.snapshots["/metrics"] = answer(200, body)
    endpoints = Endpoints(runtime_metrics_url=f"{staging.url}/metrics")

    assert ControlService(endpoints, None, 5).snapshot("runtime_metrics") == body.encode()


def test_only_the_control_service_names_a_driver() -> None:
    assert routing_driver_missing({"data": {"driver": "control_service"}}) is None
    assert routing_driver_missing(None) is None  # that is another warning
    for other in ({}, {"data": None}, {"data": {"driver": 5}}, {"driver": "control_service"}):
        assert "data.driver" in (routing_driver_missing(other) or "")


def test_a_token_is_hidden_as_json_writes_it() -> None:
    awkward = 'a"b\\c'

    hidden = Redactor(FixedToken(awkward)).data(json.dumps({"echo": awkward}).encode())

    assert hidden == b'{"echo": "[redacted]"}'
