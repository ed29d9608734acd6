"""Publishing while a rollout is worked on, with a real store, a real lease, and locks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from canary_pipeline.outside.lease import CUT_OFF_SECONDS
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.store.held import LostError
from canary_pipeline.store.holding import Holding
from canary_pipeline.store.publishing import Publishing
from canary_pipeline_tests.rollout.conftest import FakeClock

NAME = "staging-20260225T080000Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A rollout's folder."""
    folder = tmp_path / "work" / NAME
    (folder / "logs").mkdir(parents=True)
    (folder / "rollout.json").write_text("{}")
    (folder / "logs/gate-one.log").write_text("log")
    return folder


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A shared folder that takes everything but this rollout's logs."""
    shared = tmp_path / "shared"
    (shared / "rollouts/staging" / NAME).mkdir(parents=True)
    (shared / "rollouts/staging" / NAME / "logs").write_text("no folder")
    return shared


@pytest.fixture
def held(shared: Path) -> Iterator[Holding]:
    """The environment, held while the test runs."""
    with Holding("staging", f"file://{shared}") as held:
        yield held


def test_a_decision_waits_no_longer_for_a_store_without_room_than_for_one_that_is_away(
    folder: Path, shared: Path, held: Holding, clock: FakeClock
) -> None:
    publishing = Publishing(folder, open_store(f"file://{shared}"), held)
    told = rf"has not taken logs/gate-one\.log for {CUT_OFF_SECONDS} s.*staging is still held"

    with pytest.raises(LostError, match=told):
        publishing.conclude("SUMMARY.md", b"allow", now=clock.monotonic, wait=clock.sleep)

    assert CUT_OFF_SECONDS <= clock.seconds <= CUT_OFF_SECONDS + 2
    assert not (folder / "SUMMARY.md").exists()
    assert not (shared / "rollouts/staging" / NAME / "SUMMARY.md").exists()


def test_who_could_not_publish_a_decision_may_still_roll_back_and_decide_later(
    folder: Path, shared: Path, held: Holding, clock: FakeClock
) -> None:
    publishing = Publishing(folder, open_store(f"file://{shared}"), held)
    with pytest.raises(LostError):
        publishing.conclude("SUMMARY.md", b"block", now=clock.monotonic, wait=clock.sleep)

    assert held.lost() is None
    held.confirm()
    held.owe(None)
    (shared / "rollouts/staging" / NAME / "logs").unlink()
    publishing.conclude("SUMMARY.md", b"block", now=clock.monotonic, wait=clock.sleep)

    assert (folder / "SUMMARY.md").read_bytes() == b"block"
    assert (shared / "rollouts/staging" / NAME / "SUMMARY.md").read_bytes() == b"block"
