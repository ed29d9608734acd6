"""A control service that does to each cohort's probe what a test says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

GOOD = {"data": {"driver": "control_service", "reason": "default_driver"}}

Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class FakeStaging:
    """What was asked, and what is answered.

    Attributes:
        probes: How the probe of each cohort is answered, where not as it should be.
        snapshots: How a GET of each path is answered, where not with JSON.
    """

    url: str
    token: str
    probes: dict[int, Behaviour] = field(default_factory=dict)
    snapshots: dict[str, Behaviour] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def probed(self) -> list[int]:
        """The cohorts that were probed, in order."""
        probes = [request.body for request in self.seen if request.method == "POST"]
        return [int(body["thread_id"].rpartition("-")[2]) for body in probes]

    @classmethod
    @contextmanager
    def serving(cls, token: str) -> Iterator["FakeStaging"]:
        """Serve on a free port of loopback."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        fake = cls(f"http://127.0.0.1:{server.server_port}", token)
        server.fake = fake  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            fake.released.set()
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    @property
    def fake(self) -> FakeStaging:
        return cast("FakeStaging", self.server.fake)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.note(body)
        if self.headers["Authorization"] != f"Bearer {self.fake.token}":
            send(self, 401, {"error": {"code": "unauthorized"}})
            return
        cohort = int(body["thread_id"].rpartition("-")[2])
        self.fake.probes.get(cohort, answer(200, GOOD))(self)

    def do_GET(self) -> None:
        self.note(None)
        count = len(self.fake.seen)
        self.fake.snapshots.get(self.path, answer(200, {"data": {"count": count}}))(self)

    def note(self, body: Any) -> None:
        self.fake.seen.append(Seen(self.command, self.path, dict(self.headers), body))

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def send(
    handler: BaseHTTPRequestHandler, status: int, body: object, kind: str = "application/json"
) -> None:
    """Answer with a body; text is sent as it is, everything else as JSON."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def answer(status: int, body: object, kind: str = "application/json") -> Behaviour:
    """Answer with this."""
    return lambda handler: send(handler, status, body, kind)


def redirect(location: str) -> Behaviour:
    """Answer with a redirect."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


def never(handler: BaseHTTPRequestHandler) -> None:
    """Do not answer until the test is over."""
    cast("_Handler", handler).fake.released.wait(300)


def reset_midway(handler: BaseHTTPRequestHandler) -> None:
    """Promise a body and close in the middle of it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": ')
    handler.wfile.flush()
    handler.connection.close()


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """Send a byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    released = cast("_Handler", handler).fake.released
    while not released.wait(0.2):
        try:
            handler.wfile.write(b" ")
            handler.wfile.flush()
        except OSError:
            return


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Send a body without end."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(4096):
            handler.wfile.write(b"x" * 65536)
    except OSError:
        return
