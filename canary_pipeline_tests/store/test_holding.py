"""Holding an environment and a rollout's folder, beside other processes that want them too."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from canary_pipeline.outside.claim import FOLDER_LOCK, EnvironmentTakenError, holder_of
from canary_pipeline.store.held import LostError
from canary_pipeline.store.holding import Holding

NAME = "staging-20260225T080000Z"

READ = """
import sys
from pathlib import Path
from canary_pipeline.environments import STAGING
from canary_pipeline.outside.shared_folder import SharedFolder
from canary_pipeline.store.elsewhere import Elsewhere

class Slow(SharedFolder):
    def keys(self, prefix, after=""):
        print("reading", flush=True)
        sys.stdin.readline()
        return super().keys(prefix, after)

Elsewhere(Slow(Path(sys.argv[1])), STAGING).bring(sys.argv[3], Path(sys.argv[2]))
"""

WORK = """
import sys
from pathlib import Path
from canary_pipeline.outside.claim import lock_folder

with lock_folder(Path(sys.argv[2]), {"started by": "canary-rollout"}):
    print("working", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process(program: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Where a rollout is published."""
    shared = tmp_path / "shared"
    (shared / "rollouts/staging" / NAME).mkdir(parents=True)
    (shared / "rollouts/staging" / NAME / "rollout.json").write_text("{}")
    return shared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Its folder here."""
    folder = tmp_path / "work" / NAME
    folder.mkdir(parents=True)
    return folder


def test_who_goes_on_with_a_rollout_waits_for_a_reader_that_brings_its_folder(
    folder: Path, shared: Path
) -> None:
    with (
        another_process(READ, shared, folder, NAME) as reader,
        Holding("staging", f"file://{shared}") as held,
    ):
        held.work_in(folder, wait=lambda _: reader.communicate("\n"))

        assert held.folder == folder
        assert (folder / "rollout.json").exists()


def test_a_reader_that_does_not_end_is_not_waited_for_for_ever(
    folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canary_pipeline.store.holding.READER_SECONDS", 0.0)
    with (
        another_process(READ, shared, folder, NAME),
        Holding("staging", f"file://{shared}") as held,
        pytest.raises(EnvironmentTakenError, match="started by a reader"),
    ):
        held.work_in(folder)


def test_who_works_in_a_folder_is_not_waited_for(folder: Path, shared: Path) -> None:
    with (
        another_process(WORK, shared, folder),
        Holding("staging", f"file://{shared}") as held,
        pytest.raises(EnvironmentTakenError, match="started by canary-rollout"),
    ):
        held.work_in(folder, wait=lambda _: pytest.fail("waited"))


def test_what_was_given_back_is_held_anew_with_its_folder_and_published(
    folder: Path, shared: Path
) -> None:
    held = Holding("staging", f"file://{shared}")
    for number in (1, 2):
        with held:
            held.work_in(folder)
            (folder / f"{number}.json").write_text("{}")

            assert holder_of(folder / FOLDER_LOCK)
            assert held.token == number
            assert held.why_stop() is None

        assert holder_of(folder / FOLDER_LOCK) is None
        with pytest.raises(LostError, match=rf"token {number}\) was given back"):
            held.conclude("SUMMARY.md", b"Decision: allow")
        assert (shared / "rollouts/staging" / NAME / f"{number}.json").exists()
