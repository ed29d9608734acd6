"""What a host knows of an environment beyond any rollout's folder."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canary_pipeline.store import layout
from canary_pipeline.store.journal import MOST_ROOTS, Journal, Owed, State
from canary_pipeline_tests.builders import seen

NOW = datetime(2026, 2, 25, 8, 0, tzinfo=UTC)


def test_a_rollout_owes_what_it_applied_until_it_is_settled(tmp_path: Path) -> None:
    journal, one, other = Journal("staging"), tmp_path / "one", tmp_path / "other"

    journal.applied(one, 5, seen(0))

    owed = Owed(folder=one, percent=5, before=seen(0))
    assert journal.read().owed == owed
    journal.settled(other)
    assert Journal("staging").read().owed == owed
    assert Journal("production").read() == State()
    journal.settled(one)
    assert journal.read().owed is None


def test_the_newest_rollout_speaks_for_the_environment_while_its_folder_is_there(
    tmp_path: Path,
) -> None:
    journal, one, newer = Journal("staging"), tmp_path / "one", tmp_path / "newer"
    newer.mkdir()

    for folder in (*(tmp_path / str(number) / "x" for number in range(MOST_ROOTS)), one, newer):
        journal.opened(folder, NOW)

    assert (journal.newer_than(one), journal.newer_than(newer)) == (newer, None)
    roots = journal.read().roots
    assert (len(roots), roots[-1]) == (MOST_ROOTS, tmp_path)
    newer.rmdir()
    assert journal.newer_than(one) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"newest": 5}'])
def test_a_journal_that_cannot_be_read_knows_nothing_and_is_written_anew(
    content: bytes, tmp_path: Path
) -> None:
    file = Path(os.environ["CANARY_PIPELINE_STATE_DIR"]) / "environments/staging.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    journal = Journal("staging")

    assert journal.read() == State()
    journal.opened(tmp_path, NOW)
    assert journal.read().newest == tmp_path


def test_a_later_attempts_files_carry_its_number(tmp_path: Path) -> None:
    assert layout.gate_log("one", 1) == "logs/gate-one.log"
    assert layout.gate_log("one", 2) == "logs/gate-one.2.log"
    assert layout.apply_log(5, 3) == "logs/apply-5.3.log"
    assert layout.response(5, 2) == "cohort-5.2.json"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/rollback-2.log").touch()
    assert layout.free_rollback_log(tmp_path, 2) == "logs/rollback-2.2.log"
