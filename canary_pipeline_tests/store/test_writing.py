"""What is written is kept, also if the power is cut right after; and who cannot keep it says so."""

import os
from pathlib import Path

import pytest

from canary_pipeline.outside.token import Redactor
from canary_pipeline.store.log import Log
from canary_pipeline.store.writing import write_whole


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is synced from now on, in order, by the names that it has at that moment."""
    found: list[Path] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        found.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_a_file_is_kept_and_then_its_name(tmp_path: Path, synced: list[Path]) -> None:
    write_whole(tmp_path / "decision.json", b"{}")

    content, name = synced
    assert content.name.startswith(".decision.json-")
    assert name == tmp_path


def test_a_log_is_kept_when_its_command_has_ended(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "gate-one.log"
    with Log(path.open("wb", buffering=0), Redactor(None)) as log:
        log.write(b"half a line")

    assert synced == [path]
    assert log.error is None
    assert path.read_bytes() == b"half a line"


def test_a_log_that_cannot_be_kept_says_so_and_stops_nothing(tmp_path: Path) -> None:
    file = (tmp_path / "gate-one.log").open("wb", buffering=0)
    with Log(file, Redactor(None)) as log:
        log.write(b"a line\n")
        os.close(file.fileno())

    assert log.error == "Bad file descriptor"
