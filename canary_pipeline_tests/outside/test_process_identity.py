"""When a process is certain to be dead: never by its pid alone."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from canary_pipeline.outside.process_identity import is_gone, this_process
from canary_pipeline_tests.conftest import await_true

TELL = """
from canary_pipeline.outside.process_identity import this_process
print(this_process(), flush=True)
input()
"""


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-c", TELL]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        yield started
        started.kill()


def name_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_process_is_gone_once_it_was_killed(process: "subprocess.Popen[str]") -> None:
    name = name_of(process)
    assert not is_gone(name)
    process.kill()
    await_true(lambda: is_gone(name))  # dead, though nobody has asked yet how it ended
    process.wait()
    assert is_gone(name)


def test_who_has_the_pid_of_a_dead_process_is_another(process: "subprocess.Popen[str]") -> None:
    pids, pid, began = name_of(process).rsplit(" ", 2)
    assert is_gone(f"{pids} {pid} {int(began) - 1}")


@pytest.mark.parametrize("name", ["", "1", "a b c d", "boot pid:[1] 0 7", "boot pid:[1] -1 7"])
def test_what_names_no_process_is_not_gone(name: str) -> None:
    assert not is_gone(name)


def test_pids_of_another_boot_or_container_say_nothing(process: "subprocess.Popen[str]") -> None:
    boot, pids, pid, began = name_of(process).split()
    process.kill()
    process.wait()
    assert is_gone(f"{boot} {pids} {pid} {began}")
    assert not is_gone(f"another-boot {pids} {pid} {began}")
    assert not is_gone(f"{boot} pid:[1] {pid} {began}")


def test_a_process_that_sees_the_pids_of_others_has_no_name_and_judges_none() -> None:
    """As in a container whose `/proc` is the host's."""
    ask = "import sys; from canary_pipeline.outside.process_identity import *; "
    ask += "print([this_process(), is_gone(sys.argv[1])])"
    unshare = ["unshare", "--pid", "--fork", sys.executable, "-c", ask]
    gone = f"{this_process().rsplit(' ', 2)[0]} {2**22 + 1} 7"
    told = subprocess.run([*unshare, gone], capture_output=True, text=True, check=False)
    if "unshare" in told.stderr:
        pytest.skip("a namespace of pids is not permitted here")
    assert (is_gone(gone), told.stdout, os.getpid() > 0) == (True, "['', False]\n", True)
