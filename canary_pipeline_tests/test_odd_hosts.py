"""Odd hosts: a rollout works there, or ends before anything is written, in a line that helps."""

import os
import shutil
from collections.abc import Mapping

import pytest

from canary_pipeline_tests.conftest import decision
from canary_pipeline_tests.odd_host import Host, Odd, failing, host, mounted, small_disk
from canary_pipeline_tests.outside.another_user import let_in

__all__ = ["host"]


def a_root_that_is_read_only(host: Host) -> list[str]:
    (host.root / "temporary").mkdir()
    host.set(TMPDIR=host.root / "temporary")
    own = f"'{host.root}'"
    script = f"mount --bind {own} {own}; mount -o remount,ro,bind /; cd '{host.commands.folder}'"
    return mounted(script)


def a_long_tmpdir(host: Host) -> list[str]:
    folder = host.root.joinpath(*["x" * 200] * 4)
    folder.mkdir(parents=True)
    host.set(TMPDIR=folder)
    return []


def nobody_s_home(host: Host) -> list[str]:
    """A user whom the host does not know, as containers have them."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user needs root and setpriv")
    let_in(host.root)
    for folder in (host.root, *host.root.rglob("*")):
        folder.chmod(folder.stat().st_mode | (0o777 if folder.is_dir() else 0o666))
    host.set(HOME=None, PYTHONDONTWRITEBYTECODE="1")
    return ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]


WORKS: Mapping[str, Odd] = {
    "no pidfd_open": lambda _: failing("pidfd_open:error=ENOSYS"),
    "modes are refused": lambda _: failing("chmod,fchmod,fchmodat:error=EPERM"),
    "nothing is promised to be kept": lambda _: failing("fsync,fdatasync:error=EINVAL"),
    "no hard links": lambda _: failing("link,linkat:error=EPERM"),
    "a /dev/shm of no use": lambda _: mounted("mount -t tmpfs -o ro,size=4k none /dev/shm"),
    "no /proc": lambda _: mounted("mount -t tmpfs none /proc"),
    "a read-only root": a_root_that_is_read_only,
    "a long TMPDIR": a_long_tmpdir,
    "no home and no name": nobody_s_home,
}


@pytest.mark.parametrize("kind", WORKS)
def test_a_rollout_works_on_a_host_that_is_odd(kind: str, host: Host) -> None:
    result = host.rollout(*WORKS[kind](host))

    assert (result.code, result.err) == (0, "")
    assert (decision(host.commands.folders[0]), host.percent) == ("Decision: allow", 5)


def no_home_at_all(host: Host) -> list[str]:
    host.set(CANARY_PIPELINE_STATE_DIR=None, XDG_STATE_HOME=None)
    return nobody_s_home(host)


def a_state_folder_that_cannot_be(host: Host) -> list[str]:
    host.set(CANARY_PIPELINE_STATE_DIR="/proc/none")
    return []


HELP_FOLDER, HELP_STATE = "or give --output-dir", "set CANARY_PIPELINE_STATE_DIR"

REFUSED: Mapping[str, tuple[Odd, str, str]] = {
    "nothing is kept": (
        lambda _: failing("fsync,fdatasync:error=EIO"), "Input/output error", HELP_FOLDER,
    ),
    "no locks": (lambda _: failing("flock:error=ENOLCK"), "No locks available", HELP_FOLDER),
    "renaming is refused": (
        lambda _: failing("rename,renameat,renameat2:error=EPERM"),
        "Operation not permitted", HELP_FOLDER,
    ),
    "no locks where environments are claimed": (
        lambda host: failing("fcntl:error=ENOLCK", of=[host.root / "canary-pipeline-staging.lock"]),
        "No locks available", "set CANARY_PIPELINE_CLAIM_DIR",
    ),
    "nothing can be remembered": (
        a_state_folder_that_cannot_be, "No such file or directory", HELP_STATE,
    ),
    "no home at all": (no_home_at_all, "XDG_STATE_HOME is not set", "a folder to write to"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_rollout_that_cannot_work_leaves_nothing_and_says_what_to_set(
    kind: str, host: Host
) -> None:
    odd, why, helps = REFUSED[kind]

    result = host.rollout(*odd(host))

    [line] = result.err.splitlines()
    assert (result.code, result.out) == (2 if "not set" in why else 3, "")
    assert why in line
    assert helps in line
    assert host.is_untouched()


def test_where_inodes_are_used_up_nothing_is_left(host: Host) -> None:
    with small_disk(host.output, "nr_inodes=4"):  # the root, two above the folder, and the folder
        result = host.rollout()

        assert result.code == 3
        assert "No space left on device" in result.err
        assert HELP_FOLDER in result.err
        assert host.is_untouched()
