"""How the server starts itself again: the same process on the same port, with other variables."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import NoReturn

HOST = "127.0.0.1"
SOCKET_VARIABLE = "LOCAL_STAGING_SOCKET"
CLOSE_SECONDS = 2


def socket_to_serve_on(port: int) -> socket.socket:
    """The socket that was kept over a restart, or a new one; port 0 takes a free one."""
    kept = os.environ.pop(SOCKET_VARIABLE, None)
    return socket.socket(fileno=int(kept)) if kept else socket.create_server((HOST, port))


async def keep_port(port: int) -> socket.socket:
    """Hold a port that was just closed: whoever connects is refused, and nobody else can take it.

    Raises:
        OSError: When somebody else has the port.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.set_inheritable(True)
    deadline = time.monotonic() + CLOSE_SECONDS
    while True:
        try:
            kept.bind((HOST, port))
        except OSError:  # an event loop may close a socket a moment after it was asked to
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)
        else:
            return kept


def start_again(variables: Mapping[str, str], kept: socket.socket) -> NoReturn:
    """Become a new server, with these variables and the port that was kept for it."""
    environment = {**variables, SOCKET_VARIABLE: str(kept.fileno())}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
