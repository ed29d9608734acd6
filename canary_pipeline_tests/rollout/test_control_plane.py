"""What can go wrong on the way to staging: each within its time, in words without secrets."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from canary_pipeline.rollout.control_plane import Answer, ControlPlane, Failure, below
from canary_pipeline.rollout.credentials import FixedToken, TokenFile
from canary_pipeline.rollout.plan import Endpoints
from canary_pipeline_tests.conftest import TOKEN
from canary_pipeline_tests.fake_staging import FakeStaging, answer, endless, never, trickle

TIMEOUT = 1.0


def ask(base: str) -> Answer | Failure:
    """Probe cohort 5; the answer must come within the timeout, give or take a moment."""
    started = time.monotonic()
    found = ControlPlane(Endpoints(base), FixedToken(TOKEN), TIMEOUT).evaluate(5)
    assert time.monotonic() - started < TIMEOUT + 1
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
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    done.set()
    listener.close()


def test_headers_that_come_a_byte_at_a_time_are_given_up_in_time() -> None:
    pieces = [b"HTTP/1.1 200 OK\r\n", *[b"X"] * 200]

    with raw_server(*pieces, pause=0.2) as url:
        found = ask(url)

    assert found == Failure("timeout", "no complete answer within 1 s")


@pytest.mark.parametrize("behaviour", [never, trickle], ids=["never", "trickle"])
def test_no_complete_answer_is_given_up_in_time(behaviour: object, staging: FakeStaging) -> None:
    staging.probes[5] = behaviour  # type: ignore[assignment]

    found = ask(staging.url)

    assert isinstance(found, Failure)
    assert found.kind == "timeout"


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("http://user:p4ssw0rd@127.0.0.1:9/?key=p4ssw0rd", "connection_refused"),
        ("http://user:p4ssw0rd@no-such-host.invalid/?key=p4ssw0rd", "dns_failure"),
    ],
)
def test_a_failure_says_what_happened_without_secrets(base: str, kind: str) -> None:
    found = ask(base)

    assert isinstance(found, Failure)
    assert found.kind == kind
    assert "p4ssw0rd" not in found.message
    assert TOKEN not in found.message


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", "connection_reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "connection_reset"),
        (b"this is not HTTP\r\n\r\n", "connection_reset"),
    ],
)
def test_an_answer_that_breaks_off(sent: bytes, kind: str) -> None:
    with raw_server(sent) as url:
        found = ask(url)

    assert isinstance(found, Failure)
    assert found.kind == kind


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
    ControlPlane(Endpoints(runtime_metrics_url=f"{staging.url}/metrics"), None, 5).snapshot(
        "runtime_metrics"
    )
    assert "Authorization" not in staging.seen[-1].headers


def test_a_token_file_that_vanished_is_a_failure(staging: FakeStaging, tmp_path: Path) -> None:
    token = TokenFile(tmp_path / "gone")

    found = ControlPlane(Endpoints(staging.url), token, 5).evaluate(5)

    assert isinstance(found, Failure)
    assert found.kind == "token_unavailable"
    assert staging.seen == []


def test_user_info_of_a_snapshot_url_is_its_basic_auth(staging: FakeStaging) -> None:
    url = staging.url.replace("://", "://user:pass@") + "/metrics"

    ControlPlane(Endpoints(runtime_metrics_url=url), None, 5).snapshot("runtime_metrics")

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
