"""Running a command: how it ends, what is heard of it, and that nothing of it outlives its time."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from canary_pipeline.outside import command as process
from canary_pipeline.outside.clock import Clock, SystemClock
from canary_pipeline.outside.command import Finished
from canary_pipeline.outside.process_group import Stopping
from canary_pipeline_tests.conftest import await_true
from canary_pipeline_tests.rollout.conftest import FakeClock, children_of


class Interrupted(BaseException):
    pass


@dataclass
class Shell:
    """Runs bash scripts in a folder of their own, and hears what they print."""

    folder: Path
    heard: bytearray = field(default_factory=bytearray)

    def run(
        self,
        script: str,
        *,
        timeout_seconds: float = 30,
        environment: Mapping[str, str] = os.environ,
        clock: Clock | None = None,
        check_stop: Callable[[], None] = lambda: None,
        grace_seconds: float = 0.3,
        leave_background: bool = False,
        stopping: Callable[[Stopping], None] | None = None,
    ) -> Finished:
        """Run a script to its end."""
        return process.run(
            ["bash", "-c", script],
            self.folder,
            environment,
            write=self.heard.extend,
            timeout_seconds=timeout_seconds,
            clock=clock or SystemClock(),
            check_stop=check_stop,
            grace_seconds=grace_seconds,
            leave_background=leave_background,
            stopping=stopping,
        )

    def raise_once(self, name: str) -> Callable[[], None]:
        """A `check_stop` that interrupts once the script has written a file."""

        def check_stop() -> None:
            if self.has(name):
                raise Interrupted

        return check_stop

    def has(self, name: str) -> bool:
        """Whether the script has written a file."""
        file = self.folder / name
        return file.exists() and file.read_text() != ""

    def gone(self, name: str) -> bool:
        """Whether the process whose id the script wrote to this file runs no more."""
        return not runs(int((self.folder / name).read_text()))


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize(
    ("script", "finished"),
    [
        ("exit 0", Finished("exited", 0, "")),
        ("exit 1", Finished("exited", 1, "exit code 1")),
        ("exit 255", Finished("exited", 255, "exit code 255")),
        ("kill -TERM $$", Finished("signal", None, "killed by SIGTERM")),
        ("kill -SEGV $$", Finished("signal", None, "killed by SIGSEGV")),
        ("(exit 7); exit $?", Finished("exited", 7, "exit code 7")),
    ],
)
def test_how_a_command_ends(script: str, finished: Finished, shell: Shell) -> None:
    assert shell.run(script) == finished


@pytest.mark.parametrize(
    ("program", "folder"),
    [("no-such-program", "."), ("bash", "no-such-folder"), ("bash", "a-file"), ("./a-file", ".")],
)
def test_a_command_that_cannot_start_says_why(program: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()

    finished = process.run(
        [program],
        tmp_path / folder,
        os.environ,
        write=lambda _: None,
        timeout_seconds=5,
        clock=SystemClock(),
    )

    assert (finished.end, finished.exit_code) == ("cannot_start", None)
    assert finished.detail.startswith("could not start: ")
    assert (folder if folder != "." else program) in finished.detail


@pytest.fixture
def our_own_input() -> Iterator[None]:
    """Something to read for this process, which is for no child of it."""
    before = os.dup(0)
    reading, writing = os.pipe()
    os.write(writing, b"not for you")
    os.close(writing)
    os.dup2(reading, 0)
    yield
    os.dup2(before, 0)
    os.close(reading)
    os.close(before)


@pytest.mark.usefixtures("our_own_input")
def test_a_command_sees_the_environment_it_is_given_and_no_input(shell: Shell) -> None:
    environment = {"PATH": os.environ["PATH"], "CHOSEN": "this one"}

    shell.run('echo "$CHOSEN|$HOME"; pwd; cat', environment=environment)

    assert shell.heard == f"this one|\n{shell.folder}\n".encode()


def test_a_command_leads_a_group_of_its_own(shell: Shell) -> None:
    shell.run('echo $$; ps -o pgid= -p $$ || cut -d" " -f5 "/proc/$$/stat"')

    pid, group = shell.heard.split()
    assert int(pid) == int(group) != os.getpgrp()


def test_what_is_printed_is_handed_on_while_the_command_runs(shell: Shell) -> None:
    def once_heard() -> None:
        if b"early" in shell.heard:
            (shell.folder / "go").touch()

    finished = shell.run("echo early; until [ -e go ]; do sleep 0.01; done", check_stop=once_heard)

    assert finished.exit_code == 0


def test_the_last_words_of_a_command_that_fills_the_pipe_are_heard(shell: Shell) -> None:
    shell.run("head -c 3000000 /dev/zero; echo the end")

    assert len(shell.heard) == 3_000_008
    assert shell.heard.endswith(b"the end\n")


def test_a_command_that_closes_its_output_is_still_waited_for(shell: Shell) -> None:
    finished = shell.run("exec >&- 2>&-; sleep 0.3; exit 4")

    assert finished.exit_code == 4


@pytest.mark.parametrize(
    "script",
    ["sleep 300", "exec >&- 2>&-; sleep 300", "while :; do echo busy; done"],
    ids=["quiet", "output closed", "chatty"],
)
def test_a_command_is_stopped_at_its_timeout_whatever_it_does(script: str, shell: Shell) -> None:
    started = time.monotonic()

    finished = shell.run(script, timeout_seconds=0.3)

    assert finished == Finished("timeout", None, "stopped after 0.3 s")
    assert 0.3 <= time.monotonic() - started < 4


def test_the_timeout_is_measured_by_the_clock_that_never_jumps(
    shell: Shell, clock: FakeClock
) -> None:
    looks = []

    def half_an_hour_passes() -> None:
        looks.append(clock.seconds)
        clock.wall += timedelta(days=365)
        clock.seconds += 1800 if shell.has("started") else 0

    finished = shell.run(
        "echo yes > started; sleep 300",
        timeout_seconds=3600,
        clock=clock,
        check_stop=half_an_hour_passes,
    )

    assert finished == Finished("timeout", None, "stopped after 3600 s")
    assert looks[-1] == 1800


class HourLater(SystemClock):
    """The machine's own clock, until its owner looks up and a condition holds: an hour later."""

    def __init__(self) -> None:
        self._later = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._later

    def once(self, condition: Callable[[], bool]) -> Callable[[], None]:
        """Something to call several times a second."""

        def check_stop() -> None:
            if condition():
                self._later = 3600.0

        return check_stop


@pytest.mark.parametrize(
    ("traps", "last_words"),
    [
        ("trap 'echo interrupted; exit 0' INT", b"interrupted\n"),
        ("trap '' INT; trap 'echo terminated; exit 0' TERM", b"terminated\n"),
        ("trap 'echo first' INT; trap 'echo second; exit 0' TERM", b"first\nsecond\n"),
    ],
)
def test_a_command_is_asked_twice_before_it_is_killed(
    traps: str, last_words: bytes, shell: Shell
) -> None:
    clock = HourLater()

    finished = shell.run(
        f"{traps}; echo yes > ready; while :; do :; done",
        clock=clock,
        check_stop=clock.once(lambda: shell.has("ready")),
    )

    assert finished.end == "timeout"
    assert shell.heard == last_words


FAMILY = (
    "trap '' INT TERM\n"
    "echo $$ > parent\n"
    "bash -c 'echo $$ > child; bash -c \"echo \\$\\$ > grandchild; sleep 300\"; sleep 300' &\n"
    "wait\n"
)


def family_is_there(shell: Shell) -> bool:
    return all(shell.has(name) for name in ("parent", "child", "grandchild"))


def family_is_gone(shell: Shell) -> bool:
    return all(shell.gone(name) for name in ("parent", "child", "grandchild"))


def test_a_family_that_ignores_signals_is_gone_after_its_timeout(shell: Shell) -> None:
    clock = HourLater()

    finished = shell.run(FAMILY, clock=clock, check_stop=clock.once(lambda: family_is_there(shell)))

    assert finished.end == "timeout"
    assert family_is_gone(shell)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_a_family_is_gone_after_its_owner_gave_up(kind: type[BaseException], shell: Shell) -> None:
    def give_up() -> None:
        if family_is_there(shell):
            raise kind

    with pytest.raises(kind):
        shell.run(FAMILY, check_stop=give_up)

    assert family_is_gone(shell)


def test_a_command_that_has_ended_leaves_no_process_of_ours(shell: Shell) -> None:
    before = children_of(os.getpid())

    shell.run("true")
    shell.run("sleep 300", timeout_seconds=0.1)

    assert children_of(os.getpid()) == before


def test_output_after_an_interrupt_is_still_handed_on(shell: Shell) -> None:
    script = "trap 'echo why I stopped; exit 1' INT; echo yes > ready; while :; do :; done"
    with pytest.raises(Interrupted):
        shell.run(script, check_stop=shell.raise_once("ready"))

    assert shell.heard == b"why I stopped\n"


def test_a_daemon_that_never_stops_writing_does_not_hold_the_command_up(shell: Shell) -> None:
    daemon = "setsid bash -c 'echo $$ > daemon; while :; do echo noise || exit; done'"
    started = time.monotonic()

    finished = shell.run(f"{daemon} & until [ -s daemon ]; do :; done")

    assert finished.exit_code == 0
    assert time.monotonic() - started < 10
    await_true(lambda: shell.gone("daemon"))  # its pipe is closed


SAVES_ITS_STATE = (
    "trap 'echo yes > asked; until [ -e go ]; do sleep 0.01; done; head -c 3000000 /dev/zero;"
    " echo yes > saved; exit 1' INT; echo yes > ready; while :; do sleep 0.01; done"
)
"""On SIGINT it prints more than a pipe holds before it ends, once it is told to go on."""


def test_a_command_that_saves_its_state_is_given_its_grace(shell: Shell) -> None:
    def go_on() -> None:
        await_true(lambda: shell.has("asked"))
        (shell.folder / "go").touch()

    thread = threading.Thread(target=go_on)
    thread.start()
    with pytest.raises(Interrupted):
        shell.run(SAVES_ITS_STATE, grace_seconds=60, check_stop=shell.raise_once("ready"))

    thread.join()
    assert shell.has("saved")
    assert len(shell.heard) == 3_000_000


def test_an_interrupt_is_passed_on_before_the_grace_is_over_where_somebody_takes_the_rest(
    shell: Shell,
) -> None:
    taken: list[Stopping] = []

    with pytest.raises(Interrupted):
        shell.run(
            SAVES_ITS_STATE,
            grace_seconds=60,
            check_stop=shell.raise_once("ready"),
            stopping=taken.append,
        )

    assert shell.has("asked")
    assert not shell.has("saved")
    (shell.folder / "go").touch()
    [rest] = taken
    assert rest.finish() == ""
    assert shell.has("saved")


def test_what_is_taken_is_ended_when_its_grace_is_over(shell: Shell) -> None:
    taken: list[Stopping] = []

    with pytest.raises(Interrupted):
        shell.run(
            FAMILY,
            grace_seconds=1.2,
            check_stop=shell.raise_once("grandchild"),
            stopping=taken.append,
        )

    taken[0].finish()
    assert family_is_gone(shell)


def test_a_command_that_ends_when_asked_leaves_nothing_to_take(shell: Shell) -> None:
    taken: list[Stopping] = []

    with pytest.raises(Interrupted):
        shell.run(
            "trap 'echo bye; exit' INT; echo yes > ready; while :; do :; done",
            grace_seconds=60,
            check_stop=shell.raise_once("ready"),
            stopping=taken.append,
        )

    assert taken == []
    assert shell.heard == b"bye\n"


def test_what_is_taken_dies_with_its_owner(shell: Shell) -> None:
    stop = "def stop():\n    if Path('grandchild').exists(): raise KeyboardInterrupt\n"
    program = OWNER.replace("process.run", f"{stop}process.run").replace(
        "clock=SystemClock())",
        "clock=SystemClock(), check_stop=stop, grace_seconds=300,"
        " stopping=lambda _: Path('taken').write_text('yes') and os._exit(0))",
    )
    program = program.replace("'echo $$ > pid; exec sleep 300'", repr(FAMILY))

    subprocess.run(
        [sys.executable, "-c", program, str(shell.folder)], cwd=shell.folder, check=False
    )

    assert shell.has("taken")
    await_true(lambda: family_is_gone(shell))


def test_a_second_interrupt_during_the_grace_kills_at_once(shell: Shell) -> None:
    def interrupt_again() -> None:
        await_true(lambda: shell.has("asked"))
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt_again)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        shell.run(SAVES_ITS_STATE, grace_seconds=60, check_stop=shell.raise_once("ready"))

    thread.join()
    assert not shell.has("saved")


BACKGROUND = (
    "(trap '' INT; echo $BASHPID > background; until [ -e go ]; do sleep 0.01; done;"
    " echo heard by nobody; echo yes > done) & until [ -s background ]; do sleep 0.01; done;"
)


def test_what_a_command_leaves_in_the_background_may_be_left_alone(shell: Shell) -> None:
    finished = shell.run(f"{BACKGROUND} echo started", leave_background=True)

    assert finished == Finished("exited", 0, "")
    assert shell.heard == b"started\n"
    assert not shell.gone("background")
    (shell.folder / "go").touch()
    await_true(lambda: shell.has("done"))


@pytest.mark.parametrize(("code", "leave"), [(0, False), (1, True)])
def test_otherwise_it_is_stopped(code: int, leave: bool, shell: Shell) -> None:  # noqa: FBT001
    shell.run(f"{BACKGROUND} exit {code}", leave_background=leave)

    assert shell.gone("background")


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)
@pytest.mark.parametrize(
    ("rest", "told"),
    [("; sleep 300", "stopped after 1 s; "), ("& until [ -s pid ]; do :; done", "")],
)
def test_what_may_not_be_signalled_is_still_there_and_said_so(rest: str, told: str) -> None:
    """A gate that uses `sudo`: the owner is nobody, what it runs is root's."""
    shell = Shell(Path(tempfile.mkdtemp()))  # where nobody may go
    shell.folder.chmod(0o777)
    setuid = shell.folder / "setpriv"
    shutil.copy(shutil.which("setpriv") or "", setuid)
    setuid.chmod(0o4755)
    script = f"./setpriv --reuid=0 --clear-groups bash -c 'echo $$ > pid; exec sleep 300' {rest}"

    def owner(said: "multiprocessing.connection.Connection") -> None:
        os.setuid(65534)
        said.send(shell.run(script, timeout_seconds=1))

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=owner, args=(theirs,))
    process.start()
    try:
        assert ours.poll(60)
        finished = ours.recv()
        process.join()
        assert not shell.gone("pid")
        assert finished.detail.startswith(
            f"{told}what runs as another user could not be stopped (process group "
        )
    finally:
        os.kill(int((shell.folder / "pid").read_text()), signal.SIGKILL)
        shutil.rmtree(shell.folder)


OWNER = (
    "import os, sys\n"
    "from pathlib import Path\n"
    "from canary_pipeline.outside import command as process\n"
    "from canary_pipeline.outside.clock import SystemClock\n"
    "process.run(['bash', '-c', 'echo $$ > pid; exec sleep 300'], Path(sys.argv[1]), os.environ,"
    " write=lambda _: None, timeout_seconds=300, clock=SystemClock())\n"
)


def test_a_command_does_not_outlive_an_owner_that_is_killed(shell: Shell) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(shell.folder)])
    await_true(lambda: shell.has("pid"))
    await_true(lambda: len(children_of(owner.pid)) == 2)  # the command, and what guards it
    assert not shell.gone("pid")

    owner.kill()
    owner.wait()

    await_true(lambda: shell.gone("pid"))


def test_a_command_does_not_outlive_an_owner_that_is_killed_at_once(tmp_path: Path) -> None:
    """The command itself kills its owner, as early as can be."""
    program = OWNER.replace("echo $$ > pid;", "echo $$ > pid; kill -KILL $PPID;")
    shells = [Shell(tmp_path / str(number)) for number in range(8)]
    for shell in shells:
        shell.folder.mkdir()
        subprocess.run([sys.executable, "-c", program, str(shell.folder)], check=False)

    try:
        await_true(lambda: all(shell.gone("pid") for shell in shells), 10)
    finally:
        for shell in shells:
            if not shell.gone("pid"):
                os.kill(int((shell.folder / "pid").read_text()), signal.SIGKILL)
