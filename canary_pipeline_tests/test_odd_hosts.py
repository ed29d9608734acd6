"""Odd hosts: a rollout works there, or ends before anything is written, in a line that helps."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import CORE, PROGRAMS, Checkout, Commands, Result, decision
from canary_pipeline_tests.fake_staging import GOOD, FakeStaging, send
from canary_pipeline_tests.live_staging import APPLY_VARIABLE, FAKE_APPLY, let_apply, live_in
from canary_pipeline_tests.odd_host import failing, fill, mounted, small_disk
from canary_pipeline_tests.outside.another_user import let_in

WITH_DAGSTER = ("canary-rollout",)


@dataclass
class Host:
    """Where a rollout to a staging that is applied to is begun."""

    commands: Commands
    checkout: Checkout
    staging: FakeStaging
    root: Path

    def rollout(self, *before: str, command: tuple[str, ...] = CORE) -> Result:
        """Roll out by a command that begins with what makes the host odd."""
        words = [*before, str(PROGRAMS / command[0]), *command[1:], "run", "--cohorts", "5"]
        return self.commands.run(shutil.which(words[0]) or words[0], *words[1:])

    def set(self, **variables: str | Path | None) -> None:
        """Set variables, or unset them."""
        for name, value in variables.items():
            self.commands.environment.pop(name, None)
            if value is not None:
                self.commands.environment[name] = str(value)

    @property
    def output(self) -> Path:
        return self.commands.folder / "output"

    @property
    def percent(self) -> int:
        """What is live."""
        return int(live_in(self.checkout.folder / "live.env")["data"]["canary_user_percent"])

    def is_untouched(self) -> bool:
        """Whether nothing was written, run, asked or applied."""
        begun = list((self.checkout.folder / "started").iterdir())
        return not (begun or self.staging.seen or self.percent or list(self.output.glob("*")))


@pytest.fixture
def host(commands: Commands, checkout: Checkout, staging: FakeStaging, tmp_path: Path) -> Host:
    let_apply(staging, checkout.folder)
    commands.environment[APPLY_VARIABLE] = FAKE_APPLY
    return Host(commands, checkout, staging, tmp_path)


Odd = Callable[[Host], list[str]]
"""Makes a host odd, and returns the beginning of a command that runs the rest there."""


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


@pytest.mark.parametrize("kept", [True, False], ids=["restored", "nowhere to write"])
def test_a_cohort_is_not_left_live_because_its_disk_is_full(*, kept: bool, host: Host) -> None:
    """Nothing can be written: no row, no decision, no rollback's log, but staging comes first."""
    with small_disk(host.output, "size=2m"):

        def use_up(handler: object) -> None:
            fill(host.output)
            if not kept:
                shutil.rmtree(temporary)
            send(handler, 200, GOOD)  # type: ignore[arg-type]

        temporary = host.root / "temporary"
        temporary.mkdir()
        host.set(TMPDIR=temporary)
        host.staging.probes[5] = use_up
        result = host.rollout()

        [folder] = host.commands.folders
        assert (result.code, host.percent) == (3, 0 if kept else 5)
        assert ("; staging was restored: " in result.err) == kept
        assert ("; STAGING IS LEFT AT 5 %, " in result.err) == (not kept)
        assert not (folder / "SUMMARY.md").exists() or decision(folder) == "Decision: block"

        (host.output / "ballast").unlink()
        temporary.mkdir(exist_ok=True)
        del host.staging.probes[5]
        assert host.commands.resume(folder).code == 0
        assert (decision(folder), host.percent) == ("Decision: allow", 5)


def test_a_rollback_by_hand_works_on_a_full_disk(host: Host) -> None:
    with small_disk(host.output, "size=2m"):
        assert host.rollout().code == 0
        [folder] = host.commands.folders
        fill(host.output)

        result = host.commands.rollback(folder)

        assert (result.code, host.percent) == (3, 0)
        assert "rollout.json cannot be used: No space left on device" in result.err
        assert "; staging was restored: users 0 %" in result.err


# -- with Dagster -----------------------------------------------------------------------------


def a_home_without_locks(host: Host) -> list[str]:
    return failing("flock:error=ENOLCK", of=[host.root / "dagster/.canary-pipeline.lock"])


def a_new_home_whose_database_cannot_be_locked(host: Host) -> list[str]:
    host.set(DAGSTER_HOME=host.root / "new")
    return failing("fcntl:error=ENOLCK", of=[host.root / "new/history/runs.db"])


def no_folder_for_temporary_files(host: Host) -> list[str]:
    """All is read-only but what the commands are told to write to."""
    named = [host.root / name for name in ("dagster", "state")]
    named[1].mkdir()
    host.set(CANARY_PIPELINE_CLAIM_DIR=named[1], CANARY_PIPELINE_STATE_DIR=named[1])
    bound = "".join(f"mount --bind '{each}' '{each}'; " for each in named)
    sealed = "for each in / /tmp /var/tmp /dev/shm; do if mountpoint -q $each; then "
    sealed += "mount -o remount,ro,bind $each; fi; done; "
    return mounted(f"{bound}{sealed}cd '{host.commands.folder}'")


WITHOUT_DAGSTER: Mapping[str, tuple[Odd, int, str, str]] = {
    "24 open files": (
        lambda _: ["/bin/sh", "-c", 'ulimit -n 24; exec "$@"', "sh"],
        3, "24 open files are too few", "`ulimit -n 64`",
    ),
    "a home without locks": (
        a_home_without_locks, 2, "No locks available", "accepted: a folder to write to",
    ),
    "a database that cannot be locked": (
        a_new_home_whose_database_cannot_be_locked, 2, "Dagster's storage", "DAGSTER_HOME is '",
    ),
    "no folder for temporary files": (
        no_folder_for_temporary_files, 3, "No usable temporary directory", "set TMPDIR",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", WITHOUT_DAGSTER)
def test_where_dagster_cannot_work_nothing_is_left_and_it_is_said_what_to_set(
    kind: str, host: Host
) -> None:
    odd, code, why, helps = WITHOUT_DAGSTER[kind]

    result = host.rollout(*odd(host), command=WITH_DAGSTER)

    [line] = result.err.splitlines()
    assert (result.code, result.out) == (code, "")
    assert why in line
    assert helps in line
    assert host.is_untouched()


@pytest.mark.slow
def test_a_storage_that_breaks_midway_is_a_block_with_its_reason_and_staging_is_restored(
    host: Host,
) -> None:
    applied = []

    def break_it(handler: object) -> None:
        applied.append(host.percent)
        for file in (host.root / "dagster").rglob("*.db"):
            file.write_bytes(b"no database")
        send(handler, 200, GOOD)  # type: ignore[arg-type]

    host.staging.probes[5] = break_it

    result = host.rollout(command=WITH_DAGSTER)

    assert (result.code, applied, host.percent) == (3, [5], 0)
    assert "Decision: block" in result.out.splitlines()
    assert "Traceback" not in result.err
    assert "Dagster's storage: file is not a database" in result.err.splitlines()[-1]
    [folder] = host.commands.folders
    assert decision(folder) == "Decision: block"


@pytest.mark.slow
def test_a_first_step_that_fails_leaves_a_block_with_its_reason(host: Host) -> None:
    result = host.rollout(*failing("fsync,fdatasync:error=EINVAL"), command=WITH_DAGSTER)

    assert (result.code, host.percent, host.staging.seen) == (3, 0, [])
    [folder] = host.commands.folders
    assert (
        "could not be run: Dagster's storage: disk I/O error" in (folder / "SUMMARY.md").read_text()
    )
    assert decision(folder) == "Decision: block"
