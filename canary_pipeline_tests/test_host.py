"""The host misbehaves: what a rollout still writes, and what it answers."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from canary_pipeline_tests import odd_host
from canary_pipeline_tests.conftest import (
    Checkout,
    Commands,
    await_true,
    cohort_rows,
    decision,
    gate_rows,
)
from canary_pipeline_tests.fake_staging import FakeStaging, send


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    with odd_host.small_disk(tmp_path / "disk", "size=3m") as folder:
        yield folder


def test_a_log_that_fills_the_disk_is_a_failed_gate_with_a_written_decision(
    commands: Commands, checkout: Checkout, small_disk: Path
) -> None:
    checkout.gate("spacetime-chaos", "sleep 1; head -c 20000000 /dev/zero")

    result = commands.rollout("--cohorts", "5", "--output-dir", str(small_disk / "rollout"))

    assert result.code == 1
    folder = small_disk / "rollout"
    assert decision(folder) == "Decision: block"
    [row] = [row for row in gate_rows(folder) if row["gate"] == "spacetime-chaos"]
    assert (row["status"], row["reason"]) == ("failed", "log_not_written")
    assert "No space left on device" in (folder / "SUMMARY.md").read_text()


def test_a_disk_that_others_fill_leaves_what_was_written_readable(
    commands: Commands, staging: FakeStaging, small_disk: Path
) -> None:
    def fill(handler: object) -> None:
        odd_host.fill(small_disk)
        send(handler, 200, {"data": {}})  # type: ignore[arg-type]

    staging.probes[5] = fill
    folder = small_disk / "rollout"

    result = commands.rollout("--cohorts", "5", "--output-dir", str(folder))

    assert result.code in (1, 3)
    assert not (folder / "SUMMARY.md").exists() or decision(folder) == "Decision: block"
    assert [row["status"] for row in gate_rows(folder)] == ["passed"] * 4
    assert cohort_rows(folder) == []

    (small_disk / "ballast").unlink()
    del staging.probes[5]
    again = commands.resume(folder)

    assert again.code == 0
    assert decision(folder) == "Decision: allow"


def test_a_checkout_that_vanishes_blocks(commands: Commands, checkout: Checkout) -> None:
    there, begun = checkout.folder, checkout.folder.with_name("begun")
    checkout.gate(
        "spacetime-provision-staging",
        f"until [ -e '{begun}' ]; do sleep 0.1; done; until rm -rf '{there}'; do sleep 0.1; done",
    )
    checkout.gate(
        "sync-security",
        f"touch '{begun}'; while [ -e '{there}' ]; do sleep 0.1; done; scripts/no-more",
    )

    result = commands.rollout("--cohorts", "5")

    assert result.code == 1
    [folder] = commands.folders
    assert decision(folder) == "Decision: block"


@pytest.mark.parametrize("name", ['it\'s "quoted" $HOME', "zwölf ☃", "line\nbreak"])
def test_a_checkout_and_a_folder_may_have_any_name(
    name: str, commands: Commands, checkout: Checkout, tmp_path: Path
) -> None:
    moved = tmp_path / name
    shutil.copytree(checkout.folder, moved)
    folder = tmp_path / "evidence" / name

    result = commands.rollout(
        "--cohorts", "5", "--repo-root", str(moved), "--output-dir", str(folder)
    )

    assert result.code == 0, result.out + result.err
    assert decision(folder) == "Decision: allow"
    assert [row["status"] for row in gate_rows(folder)] == ["passed"] * 4


def test_a_rollout_whose_process_alone_is_killed_leaves_no_step_behind(
    commands: Commands, checkout: Checkout, tmp_path: Path
) -> None:
    """Only the command dies; the steps that it ran must notice, with their gates."""
    checkout.gate("spacetime-chaos", f"echo $$ > '{tmp_path}/gate-pid'; sleep 300")
    process = commands.start_rollout("--cohorts", "5")
    await_true(lambda: (tmp_path / "gate-pid").exists() and (tmp_path / "gate-pid").read_text())
    gate = int((tmp_path / "gate-pid").read_text())

    process.send_signal(signal.SIGKILL)
    process.wait()

    await_true(lambda: not _alive(gate))
    [folder] = commands.folders
    assert not (folder / "SUMMARY.md").exists()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
