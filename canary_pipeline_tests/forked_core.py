"""Runs `canary-rollout` with the core alone in forks of a warm process, and kills them on request.

A kill costs a fork instead of an interpreter's start, so every moment of a rollout can be tried.
The process that forks has no threads. It reads a JSON object a line, and answers each with one.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canary_pipeline.commands import run
from canary_pipeline.commands.main import main
from canary_pipeline_tests.core_alone import CoreAlone


@dataclass(frozen=True)
class Ended:
    """How a fork ended.

    Attributes:
        code: Its exit code, or the negative number of the signal that ended it.
        out: What it printed.
        moments: Around what changed files, in order: `before fsync of gate-results.jsonl`.
    """

    code: int
    out: str
    moments: tuple[str, ...]


@dataclass(frozen=True)
class Forks:
    """The process that forks, seen from the test."""

    process: "subprocess.Popen[str]"

    def run(
        self, folder: Path, environment: Mapping[str, str], *arguments: str, kill_at: int = 0
    ) -> Ended:
        """Run a command to its end, or until it is killed at its n-th moment, from 1."""
        asked = {
            "folder": str(folder),
            "environment": dict(environment),
            "arguments": arguments,
            "kill_at": kill_at,
        }
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        answered = json.loads(self.process.stdout.readline())
        return Ended(answered["code"], answered["out"], tuple(answered["moments"]))


@contextmanager
def forks(environment: Mapping[str, str]) -> Iterator[Forks]:
    """Start the process that forks."""
    words = [sys.executable, "-m", "canary_pipeline_tests.forked_core"]
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Forks(process)
        finally:
            process.kill()


def _serve() -> None:
    run.ENGINE = CoreAlone()
    for line in sys.stdin:
        print(json.dumps(_forked(**json.loads(line))), flush=True)


def _forked(
    folder: str, environment: Mapping[str, str], arguments: Sequence[str], kill_at: int
) -> dict[str, Any]:
    moments, printed = Path(folder, "moments"), Path(folder, "printed")
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _count(moments, kill_at)
        os._exit(_answer(arguments))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"code": code, "out": printed.read_text(), "moments": moments.read_text().splitlines()}


def _answer(arguments: Sequence[str]) -> int:
    try:
        main(list(arguments), prog_name="canary-rollout")
    except SystemExit as ended:
        sys.stdout.flush()
        return int(ended.code or 0)
    return 99


def _count(moments: Path, kill_at: int) -> None:
    """Note every moment around a change to files; die at one of them.

    Between what is synced and what gets its name or is removed nothing differs for who comes later.
    """
    handle = os.open(moments, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    lock, seen = threading.Lock(), 0

    def note(what: str) -> None:
        nonlocal seen
        with lock:
            os.write(handle, f"{what}\n".encode())
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def counted(name: str, change: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: Any, **more: Any) -> None:
            target = arguments[-1]
            is_open = isinstance(target, int)
            path = Path(f"/proc/self/fd/{target}").readlink() if is_open else Path(target)
            if name == "fsync":
                note(f"before fsync of {path.name}")
            change(*arguments, **more)
            note(f"after {name} of {path.name}")

        return changed

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, counted(name, getattr(os, name)))


if __name__ == "__main__":
    _serve()
