"""A reader never sees half a file or half a row, and edited evidence is not believed."""

import json
import multiprocessing
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.decision import decide
from canary_pipeline.rollout.evidence import Evidence, NotARolloutError
from canary_pipeline.rollout.plan import Plan
from canary_pipeline.rollout.records import CohortRow, GateRow, InFlight
from canary_pipeline_tests.rollout.conftest import FakeClock


def row(number: int, gate: str = "one") -> GateRow:
    return GateRow(gate=gate, status="passed", attempt=1, run_id=f"run-{number}")


def _add_rows(folder: Path, first: int) -> None:
    for number in range(first, first + 50):
        Evidence(folder).add_gate_row(row(number))


def test_rows_that_many_processes_add_at_once_are_all_whole(evidence: Evidence) -> None:
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_add_rows, args=(evidence.folder, first))
        for first in range(0, 400, 50)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    rows = evidence.record().gate_rows
    assert sorted(int(each.run_id[4:]) for each in rows) == list(range(400))


def test_a_torn_row_is_not_read_and_does_not_spoil_the_next(evidence: Evidence) -> None:
    evidence.add_gate_row(row(1))
    file = evidence.folder / "gate-results.jsonl"
    with file.open("ab") as torn:
        torn.write(b'{"gate": "two", "sta')

    assert [each.run_id for each in evidence.record().gate_rows] == ["run-1"]

    evidence.add_gate_row(row(2))

    record = evidence.record()
    assert [each.run_id for each in record.gate_rows] == ["run-1", "run-2"]
    assert record.problems == ()


def _fill_up(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    evidence = Evidence(folder)
    with pytest.raises(OSError, match="File too large"):
        evidence.write_text("SUMMARY.md", "x" * 3000)
    with pytest.raises(OSError, match="File too large"):
        _add_rows(folder, 0)


def test_a_full_disk_leaves_what_was_written_whole(evidence: Evidence) -> None:
    evidence.write_text("SUMMARY.md", "before")
    child = multiprocessing.get_context("fork").Process(target=_fill_up, args=(evidence.folder,))
    child.start()
    child.join()

    assert child.exitcode == 0
    assert evidence.read_text("SUMMARY.md") == "before"
    lines = (evidence.folder / "gate-results.jsonl").read_text().splitlines(keepends=True)
    assert lines
    assert all(line.endswith("\n") and json.loads(line) for line in lines)
    assert not list(evidence.folder.glob(".SUMMARY*"))


def test_a_step_in_flight_leaves_no_trace_once_it_has_ended(evidence: Evidence) -> None:
    state = InFlight(step="gate one", phase="running", started_at="s", attempt=1, run_id="r")
    evidence.set_in_flight(state)

    assert evidence.all_in_flight() == [state]

    evidence.clear_in_flight("gate one")

    assert evidence.in_flight("gate one") is None
    assert not (evidence.folder / "in-flight").exists()


@pytest.fixture
def finished(plan: Plan, evidence: Evidence, clock: FakeClock) -> Evidence:
    """A rollout that is allowed."""
    for gate in plan.gates:
        with evidence.open_log(gate.log_file) as log:
            log.write(b"fine\n")
        evidence.add_gate_row(
            GateRow(
                gate=gate.name,
                status="passed",
                log_file=gate.log_file,
                log_sha256=evidence.sha256(gate.log_file),
                attempt=1,
                run_id="run-1",
            )
        )
    for percent in plan.cohorts:
        name = f"cohort-{percent}.json"
        evidence.write_text(name, "{}")
        evidence.add_cohort_row(
            CohortRow(
                cohort_percent=percent,
                status="passed",
                response_file=name,
                response_sha256=evidence.sha256(name),
                attempt=1,
                run_id="run-1",
            )
        )
    assert attempts.end(evidence, "run-1", "finished", None, clock).allowed
    return evidence


@pytest.mark.parametrize(
    "name", ["gate-results.jsonl", "cohort-results.jsonl", "logs/gate-one.log", "cohort-5.json"]
)
@pytest.mark.parametrize("harm", ["emptied", "truncated", "overwritten", "removed"])
def test_evidence_that_was_tampered_with_blocks_and_is_named(
    name: str, harm: str, finished: Evidence
) -> None:
    file = finished.folder / name
    data = file.read_bytes()
    if harm == "removed":
        file.unlink()
    else:
        harmed = {"emptied": b"", "truncated": data[:-1], "overwritten": b"[1, 2]\n" + data[7:]}
        file.write_bytes(harmed[harm])

    decision = decide(finished.verified_record())

    assert not decision.allowed
    assert any(name in reason.evidence for reason in decision.reasons)


def _edit_first(line: bytes) -> bytes:
    return line.replace(b'"passed"', b'"failed"', 1)


EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a row edited": lambda lines: [_edit_first(lines[0]), *lines[1:]],
    "a field added": lambda lines: [lines[0].replace(b"{", b'{"x": 1, ', 1), *lines[1:]],
    "the first row removed": lambda lines: lines[1:],
    "the last row removed": lambda lines: lines[:-1],
    "rows exchanged": lambda lines: lines[::-1],
    "a row doubled": lambda lines: [*lines, lines[-1]],
    "a link removed": lambda lines: [lines[0].replace(b'"chain"', b'"other"'), *lines[1:]],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", ["gate-results.jsonl", "cohort-results.jsonl"])
def test_rows_that_somebody_edited_block_and_their_file_is_named(
    edit: str, name: str, finished: Evidence, clock: FakeClock
) -> None:
    file = finished.folder / name
    file.write_bytes(b"".join(EDITS[edit](file.read_bytes().splitlines(keepends=True))))

    decisions = [
        decide(finished.verified_record()),
        attempts.end(finished, "run-1", "finished", None, clock),  # sealing hides nothing
        decide(finished.verified_record()),
    ]

    for decision in decisions:
        assert not decision.allowed
        assert any(name in reason.text for reason in decision.reasons)


def test_rows_that_a_later_attempt_adds_are_believed(finished: Evidence, clock: FakeClock) -> None:
    attempts.join(finished, "run-2", "a test", clock)
    finished.add_gate_row(GateRow(gate="one", status="passed", attempt=2, run_id="run-2"))

    assert attempts.end(finished, "run-2", "finished", None, clock).allowed


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b"\xff"])
def test_a_folder_without_a_readable_header_is_no_rollout(
    content: bytes | None, finished: Evidence
) -> None:
    header = finished.folder / "rollout.json"
    header.unlink() if content is None else header.write_bytes(content)

    with pytest.raises(NotARolloutError, match=r"rollout\.json"):
        finished.record()
