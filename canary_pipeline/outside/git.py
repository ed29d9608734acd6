"""What git says of a checkout: its commit, and whether it is as committed."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

SLOW_SECONDS = 10.0

_ELSEWHERE = frozenset(
    """
    GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR GIT_CONFIG GIT_DIR GIT_GRAFT_FILE
    GIT_IMPLICIT_WORK_TREE GIT_INDEX_FILE GIT_INTERNAL_SUPER_PREFIX GIT_NAMESPACE
    GIT_NO_REPLACE_OBJECTS GIT_OBJECT_DIRECTORY GIT_PREFIX GIT_REPLACE_REF_BASE GIT_SHALLOW_FILE
    GIT_WORK_TREE
    """.split()  # noqa: SIM905 - a list of them would be a screen long
)
"""What a hook's environment holds to name another repository (`git rev-parse --local-env-vars`).

`GIT_CONFIG_COUNT` and its like stay: they are how a CI marks a checkout as safe.
"""


@dataclass(frozen=True)
class Checkout:
    """The state of a checkout; all None where the folder is none.

    Attributes:
        commit: The full id.
        dirty: Whether anything differs from the commit, files that git does not know included;
            what it is told to ignore does not count.
        problem: Why nothing is known of a folder that is a checkout, in git's own words.
    """

    commit: str | None = None
    dirty: bool | None = None
    problem: str | None = None


def checkout_state(
    folder: Path, apart_from: Path | None = None, timeout_seconds: float = SLOW_SECONDS
) -> Checkout:
    """Ask git about a folder; never raises.

    Args:
        folder: The checkout, or a folder in it.
        apart_from: What lies here is no change: the evidence of rollouts, where it is kept in
            the checkout.
        timeout_seconds: After this long git is given up.
    """
    folder = _real(folder)
    root = next((each for each in (folder, *folder.parents) if _is_checkout(each)), None)
    if root is None or not folder.is_dir():
        return Checkout()
    try:
        answer = _status(folder, _paths(root, apart_from), timeout_seconds)
    except subprocess.TimeoutExpired:
        return Checkout(problem=f"git did not answer within {timeout_seconds:g} s")
    except OSError as error:
        return Checkout(problem=f"git cannot be run: {error.strerror}")
    if answer.returncode != 0:
        said = answer.stderr.decode("utf-8", "replace").strip()
        return Checkout(problem=said.partition("\n")[0] or f"git: exit code {answer.returncode}")
    return _read(answer.stdout)


def would_clean(folder: Path) -> bool:
    """Whether `git clean` takes a folder away: it lies in a checkout, which does not ignore it."""
    try:
        answer = _git("check-ignore -q .", folder, [], SLOW_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 1


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(folder))


def _is_checkout(folder: Path) -> bool:
    return os.path.lexists(folder / ".git")


def _paths(root: Path, apart_from: Path | None) -> list[str]:
    if apart_from is None or not _real(apart_from).is_relative_to(root):
        return []
    return ["--", ":(top)", f":(top,exclude,literal){_real(apart_from).relative_to(root)}"]


def _status(
    folder: Path, paths: list[str], timeout_seconds: float
) -> "subprocess.CompletedProcess[bytes]":
    words = "status --porcelain=v2 --branch --ignore-submodules=none --untracked-files=normal"
    return _git(words, folder, paths, timeout_seconds)


def _git(
    words: str, folder: Path, paths: list[str], timeout_seconds: float
) -> "subprocess.CompletedProcess[bytes]":
    kept = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return subprocess.run(  # noqa: S603 - fixed arguments
        [*["git", "-c", "core.fsmonitor=false"], *words.split(), *paths],
        cwd=folder,
        env={**kept, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=timeout_seconds,
    )


def _read(status: bytes) -> Checkout:
    lines = status.decode("utf-8", "replace").split("\n")
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    commit = heads.get("branch.oid")
    if commit in (None, "(initial)"):
        return Checkout(problem="the checkout has no commit yet")
    return Checkout(commit, any(line and not line.startswith("# ") for line in lines))
