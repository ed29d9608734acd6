"""Who is trusted over TLS, what goes through a proxy, and an address that swallows everything."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from canary_pipeline.outside.answers import Answer, Failure
from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.outside.endpoints import Endpoints
from canary_pipeline.outside.tls import BUNDLE_VARIABLES, Tls

TIMEOUT = 20.0


class _Json(BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_CONNECT(self) -> None:
        self.send_response(407)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def serving(context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[int]:
    """A server of `{}` on a free port; over TLS where there is a context."""
    server = ThreadingHTTPServer((host, 0), _Json)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_other_tools_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*BUNDLE_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(ca: trustme.CA, tmp_path: Path) -> Path:
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def server_context(ca: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    return context


def ask(url: str, tls: Tls | None = None, timeout: float = TIMEOUT) -> Answer | Failure:
    from canary_pipeline.outside.http import exchange  # noqa: PLC0415 - imports urllib3

    return exchange(
        "GET",
        url,
        bearer=None,
        payload=None,
        most_bytes=100,
        timeout_seconds=timeout,
        tls=tls or Tls(),
    )


def message(found: Answer | Failure) -> str:
    assert isinstance(found, Failure), found
    return found.message


def test_a_private_ca_is_trusted_where_a_setting_the_system_or_other_tools_name_it(
    ca: trustme.CA, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(server_context(ca)) as port:
        url = f"https://127.0.0.1:{port}/"
        assert "certificate is not trusted" in message(ask(url))
        assert isinstance(ask(url, Tls(ca_bundle=bundle)), Answer)
        plane = ControlService(Endpoints(None, url), None, TIMEOUT, Tls(ca_bundle=bundle))
        assert plane.snapshot("runtime_metrics") == b"{}"
        # OpenSSL's own variable moves the system's store.
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, str(bundle))
                assert isinstance(ask(url), Answer), variable


def test_a_certificate_that_is_not_the_servers_says_so(ca: trustme.CA, bundle: Path) -> None:
    with serving(server_context(ca, "staging.example.org")) as port:
        found = message(ask(f"https://127.0.0.1:{port}/", Tls(ca_bundle=bundle)))

    assert found.startswith("the server's certificate is not trusted: IP address mismatch")


def test_a_client_certificate_is_shown_to_a_server_that_asks_for_one(
    ca: trustme.CA, bundle: Path, tmp_path: Path
) -> None:
    context = server_context(ca)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.issue_cert("canary@example.org").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "client.pem"
    )
    with serving(context) as port:
        url = f"https://127.0.0.1:{port}/"
        known = ask(url, Tls(bundle, tmp_path / "client.pem"))
        unknown = ask(url, Tls(bundle))

    assert isinstance(known, Answer)
    assert isinstance(unknown, Failure)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        ("no certificate", "is not usable ("),
    ],
)
@pytest.mark.parametrize("what", ["CA bundle", "client certificate"])
def test_a_file_that_is_no_certificate_is_named(
    what: str, content: str | None, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)

    found = ask("https://127.0.0.1:9/", Tls(file) if what == "CA bundle" else Tls(None, file))

    assert isinstance(found, Failure)
    assert found.kind == "tls_failure"
    assert found.message.startswith(f"the {what} {file} {why}")


def test_a_proxy_that_refuses_says_so_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://n4me:p4ssw0rd@127.0.0.1:{port}")
        refused = message(ask("https://staging.example.org/"))
    unreachable = message(ask("https://staging.example.org/"))

    assert refused == "the proxy: it answered 407 instead of connecting"
    assert unreachable == "the proxy: the connection was refused"


def test_a_proxy_is_told_its_own_password_and_nothing_of_the_url_that_is_not_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as port:
        monkeypatch.setenv("HTTP_PROXY", f"u:p@127.0.0.1:{port}")
        found = ask("http://n4me:p4ssw0rd@staging.example.org/x?y=1#z")
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        assert isinstance(ask(f"http://127.0.0.1:{port}/direct"), Answer)
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:9")
    unknown = message(ask("http://staging.example.org/"))

    assert isinstance(found, Answer)
    assert _Json.seen[-2:] == [
        ("http://staging.example.org/x?y=1", "Basic dTpw"),
        ("/direct", None),
    ]
    assert unknown == "the environment names a proxy that is neither http nor https"


@contextmanager
def swallowing(port: int) -> Iterator[None]:
    """An address at which no connection is ever made: its queue is full."""
    with socket.create_server(("127.0.0.1", port), backlog=0) as listener:
        fill = [socket.socket() for _ in range(4)]
        for each in fill:
            each.settimeout(0)
            each.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield
        for each in fill:
            each.close()


def test_an_address_that_swallows_everything_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def two_addresses(_host: str, port: int, *_: Any) -> list[tuple[Any, ...]]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.1", port)), (*kind, ("127.0.0.2", port))]

    with serving(host="127.0.0.2") as port, swallowing(port):
        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        found = ask(f"http://staging:{port}/", timeout=6)
        monkeypatch.undo()
        alone = ask(f"http://127.0.0.1:{port}/", timeout=1.5)

    assert isinstance(found, Answer)
    assert alone == Failure("timeout", "no connection could be made (0.5 s for each address)")
