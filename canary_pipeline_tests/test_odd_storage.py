"""What is written to cannot be: a rollout's disk, or Dagster's storage, at the start or midway."""

import shutil
from collections.abc import Mapping

import pytest

from canary_pipeline_tests.conftest import decision
from canary_pipeline_tests.fake_staging import GOOD, send
from canary_pipeline_tests.odd_host import Host, Odd, failing, fill, host, mounted, small_disk

__all__ = ["host"]

WITH_DAGSTER = ("canary-rollout",)


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


@pytest.mark.slow
def test_a_storage_that_is_away_is_the_reason_that_run_and_resume_give(host: Host) -> None:
    for file in (host.root / "dagster").rglob("*.db"):
        file.write_bytes(b"no database")

    results = [host.rollout(command=WITH_DAGSTER)]
    [folder] = host.commands.folders
    results += [host.commands.run("canary-rollout", "resume", str(folder)) for _ in range(2)]

    for number, result in enumerate(results, start=1):
        assert result.code == 3
        assert "Dagster's storage: file is not a database" in result.err.splitlines()[-1]
        assert "Traceback" not in result.err
        assert f"attempt {number} crashed: could not be run: Dagster's storage" in result.out
    assert decision(folder) == "Decision: block"
