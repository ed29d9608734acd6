"""A child that does not outlive this process, however that ends."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_GUARD = (
    "import os,signal,sys\n"
    "if not sys.stdin.buffer.read(1):\n"
    "    try: os.kill(int(sys.argv[1]), signal.SIGTERM)\n"
    "    except ProcessLookupError: pass\n"
)
"""Asks a process to end once whoever started the guard is gone without a goodbye."""


@contextmanager
def ended_with_us(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Let a child be asked to end if this process is killed while the body runs."""
    guard = subprocess.Popen(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-S", "-E", "-c", _GUARD, str(child.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is not meant for it
    )
    try:
        yield
    finally:
        guard.communicate(b".")
