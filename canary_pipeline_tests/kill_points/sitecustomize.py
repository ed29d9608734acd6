"""Kills a rollout's whole process group at the n-th moment around a write of its evidence.

Python imports a module of this name by itself when it starts, so a test puts this folder on
`PYTHONPATH` of the commands that it kills. Every write of evidence is followed by one `fsync` of
the file; the moments are before and after each, counted over all processes of the rollout.
"""

import fcntl
import os
import signal
import stat
from pathlib import Path
from typing import Any


def _note_moment() -> None:
    with Path(os.environ["KILL_COUNTER"]).open("a+b") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.write(b".")
        counter.flush()
        if counter.tell() == int(os.environ["KILL_AT"]):
            os.killpg(0, signal.SIGKILL)


def _kill_around_fsync() -> None:
    fsync = os.fsync

    def counted(fd: Any) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):  # a name, which who comes later sees already
            fsync(fd)
            return
        _note_moment()
        fsync(fd)
        _note_moment()

    os.fsync = counted


if "KILL_COUNTER" in os.environ:
    _kill_around_fsync()
