"""What names a process: a pid alone is used again, and is another process's in each container.

For ever, and on whatever host it is read: the kernel's boot, whose pids it has, its pid, when it
began. For as long as its host is up, and only there: pid and start.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"(?P<pids>\S+ pid:\[\d+\]) (?P<pid>[1-9]\d{0,9}) (?P<began>\d+)")

GONE = "gone"

_ENDED = ("Z", "X")
"""States of a process that is dead although nobody has asked how it ended."""


def this_process() -> str:
    """The name of this process; empty where the system does not tell, or tells of other pids."""
    pid, pids = os.getpid(), _pids()
    _, began = _state_and_start(pid)
    return f"{pids} {pid} {began}" if pids and began else ""


def is_gone(name: str) -> bool:
    """Whether the process of a name is certain to be one of this very system, and to be dead."""
    said = _NAME.fullmatch(name)
    if said is None or said["pids"] != _pids():
        return False
    pid = int(said["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's: what is asked below tells
        pass
    state, began = _state_and_start(pid)
    return began not in ("", said["began"]) or state in _ENDED


def process_name(pid: int) -> str:
    """Pid and start, in ticks since the host's boot; of a process that is not there it ends so."""
    return f"{pid}.{_state_and_start(pid)[1] or GONE}"


def is_there(name: str) -> bool:
    """Whether the process of this name, as `process_name` gives it, lives on this host."""
    pid, _, began = name.partition(".")
    return pid.isdecimal() and began != GONE and process_name(int(pid)) == name


def _pids() -> str:
    """The boot and the namespace of this process's pids, if `/proc` shows these and no others."""
    with suppress(OSError, ValueError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        status = Path("/proc/self/status").read_text()
        if boot and f"\nNSpid:\t{os.getpid()}\n" in status:
            return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _state_and_start(pid: int) -> tuple[str, str]:
    """The state of a process, and when it began, in ticks since boot; empty where unknown."""
    with suppress(OSError, ValueError, IndexError):
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return values[0], values[19]
    return "", ""
