"""Runs `canary-rollout` with the core alone in forks of a warm process, and kills them on request.

A rollout costs a fork instead of an interpreter's start, so that every moment of one can be tried.
The process that forks has no threads. It reads a JSON object a line, and answers each with two:
the fork's process id, and how it ended.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canary_pipeline.commands import run
from canary_pipeline.commands.main import main
from canary_pipeline.outside.shared_folder import SharedFolder
from canary_pipeline_tests import core_alone


@dataclass(frozen=True)
class Ended:
    """How a fork ended.

    Attributes:
        code: Its exit code, or the negative number of the signal that ended it.
        out: What it printed to stdout.
        err: What it printed to stderr.
        moments: Around what changed files, in order: `before fsync of gate-results.jsonl`, or
            objects: `after swap of leases/staging.json`; only where they were counted.
    """

    code: int
    out: str
    err: str
    moments: tuple[str, ...]


@dataclass
class Forks:
    """The process that forks, seen from the test; begun anew after a test that gave up waiting."""

    environment: Mapping[str, str]
    process: "subprocess.Popen[str] | None" = None

    def run(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *arguments: str,
        kill_at: int | None = None,
        of_store: bool = False,
    ) -> Ended:
        """Run a command to its end, or until it is killed at its n-th moment, from 1.

        Args:
            folder: Where it works.
            environment: All of its variables.
            arguments: The command's.
            kill_at: The moment; 0 counts them and kills at none, None does not even count.
            of_store: Whether moments are those around changes to a shared folder's objects.
        """
        asked = {
            "folder": str(folder),
            "environment": dict(environment),
            "arguments": arguments,
            "kill_at": kill_at,
            "of_store": of_store,
        }
        process = self.process = self.process or _warm(self.environment)
        assert process.stdin
        assert process.stdout
        pid = 0
        try:
            print(json.dumps(asked), file=process.stdin, flush=True)
            pid = json.loads(process.stdout.readline())
            answered = json.loads(process.stdout.readline())
        except BaseException:  # the test gives up waiting
            self.end()
            if pid:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            raise
        return Ended(**{**answered, "moments": tuple(answered["moments"])})

    def end(self) -> None:
        """End the process that forks."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()


@contextmanager
def forks(environment: Mapping[str, str]) -> Iterator[Forks]:
    """Have forks of a process with these variables, which each fork replaces by its own."""
    found = Forks(environment)
    try:
        yield found
    finally:
        found.end()


def _warm(environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "canary_pipeline_tests.forked_core"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _serve() -> None:
    run.ENGINE = core_alone.CoreAlone()
    for line in sys.stdin:
        for answered in _forked(**json.loads(line)):
            print(json.dumps(answered), flush=True)


def _forked(
    folder: str,
    environment: Mapping[str, str],
    arguments: Sequence[str],
    kill_at: int | None,
    *,
    of_store: bool,
) -> Iterator[Any]:
    out, err, moments = (os.memfd_create(name) for name in ("out", "err", "moments"))
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
            os.dup2(file, number)
        # A command with a token among its arguments starts itself again without it.
        sys.orig_argv = [sys.executable, "-m", core_alone.__name__, *arguments]
        if kill_at is not None:
            (_count_in_store if of_store else _count)(_noting(moments, kill_at))
        os._exit(_answer(arguments))
    yield pid
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said = [_read(file) for file in (out, err, moments)]
    yield {"code": code, "out": said[0], "err": said[1], "moments": said[2].splitlines()}


def _read(file: int) -> str:
    """What is in a file without a name, which is gone then."""
    with os.fdopen(file, "rb") as opened:
        opened.seek(0)
        return opened.read().decode()


def _answer(arguments: Sequence[str]) -> int:
    try:
        main(list(arguments), prog_name="canary-rollout")
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.stdout.flush()
    return 99


def _noting(moments: int, kill_at: int) -> Callable[[str], None]:
    """Notes a moment, and dies at one of them."""
    lock, seen = threading.Lock(), 0

    def note(what: str) -> None:
        nonlocal seen
        with lock:
            os.write(moments, f"{what}\n".encode())
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    return note


def _count(note: Callable[[str], None]) -> None:
    """Note every moment around a change to files.

    Between what is synced and what gets its name or is removed nothing differs for who comes later;
    nor does it when a name is synced.
    """

    def counted(name: str, change: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: Any, **more: Any) -> None:
            target = arguments[-1]
            is_open = isinstance(target, int)
            path = Path(f"/proc/self/fd/{target}").readlink() if is_open else Path(target)
            if name == "fsync" and path.is_dir():
                change(*arguments, **more)
                return
            if name == "fsync":
                note(f"before fsync of {path.name}")
            change(*arguments, **more)
            note(f"after {name} of {path.name}")

        return changed

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, counted(name, getattr(os, name)))


def _count_in_store(note: Callable[[str], None]) -> None:
    """Note every moment around a change to an object, but for those that try the store."""
    inner = threading.local()

    def counted(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(store: SharedFolder, key: str, *arguments: Any) -> Any:
            if key.startswith(("self-test/", "clock/")) or getattr(inner, "swaps", False):
                return change(store, key, *arguments)
            note(f"before {name} of {key}")
            inner.swaps = True  # a swap puts
            try:
                result = change(store, key, *arguments)
            finally:
                inner.swaps = False
            note(f"after {name} of {key}")
            return result

        return changed

    for name in ("create", "put", "swap", "delete"):
        setattr(SharedFolder, name, counted(name, getattr(SharedFolder, name)))


if __name__ == "__main__":
    _serve()
