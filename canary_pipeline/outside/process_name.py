"""What names a process for as long as its host is up: a pid alone is used again."""

from pathlib import Path

GONE = "gone"


def process_name(pid: int) -> str:
    """Pid and start, in ticks since the host's boot; of a process that is not there it ends so."""
    try:
        began = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        began = GONE
    return f"{pid}.{began}"


def is_there(name: str) -> bool:
    """Whether the process of this name lives on this host."""
    pid, _, began = name.partition(".")
    return pid.isdecimal() and began != GONE and process_name(int(pid)) == name
