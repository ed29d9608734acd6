"""A child is asked to end when its parent is killed, and only then."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from canary_pipeline.outside.guard import ended_with_us
from canary_pipeline.outside.process_identity import is_there, process_name
from canary_pipeline_tests.conftest import await_true

PARENT = """
import subprocess, sys
from canary_pipeline.outside.guard import ended_with_us
from canary_pipeline.outside.process_identity import process_name

child = subprocess.Popen(["sleep", "300"])
with ended_with_us(child):
    print(process_name(child.pid), flush=True)
    child.wait()
"""


def test_a_child_does_not_outlive_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = parent.stdout.readline().strip()
    assert is_there(child)

    parent.kill()
    parent.communicate()

    await_true(lambda: not is_there(child) or is_zombie(child))


def is_zombie(name: str) -> bool:
    """Whether a process has ended and only waits for whoever inherited it."""
    try:
        return " Z " in Path(f"/proc/{name.partition('.')[0]}/stat").read_text()
    except FileNotFoundError:
        return True


def test_a_child_is_left_alone_by_a_parent_that_says_goodbye() -> None:
    with subprocess.Popen(["/bin/sleep", "300"]) as child:
        with ended_with_us(child):
            pass
        assert child.poll() is None
        child.kill()


def test_a_process_is_known_by_more_than_its_pid() -> None:
    ours = process_name(os.getpid())
    with subprocess.Popen(["/bin/sleep", "300"]) as child:
        theirs = process_name(child.pid)
        assert is_there(theirs)
        child.send_signal(signal.SIGKILL)

    assert is_there(ours)
    assert not is_there(theirs)
    assert not is_there(f"{os.getpid()}.1")
    assert process_name(child.pid) == f"{child.pid}.gone"
