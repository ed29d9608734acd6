"""A reader never sees half a file or half a row, and edited evidence is not believed."""

import json
import multiprocessing
import resource
import signal
from collections.abc import Callable, Sequence
from itertools import chain, combinations
from pathlib import Path

import pytest

from canary_pipeline.model.decision import decide
from canary_pipeline.model.plan import Plan
from canary_pipeline.model.rows import CohortRow, GateRow, InFlight, Status
from canary_pipeline.rollout import attempts
from canary_pipeline.store.folder import Evidence, NotARolloutError, Problem
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

    record = evidence.verified_record()
    assert sorted(int(each.run_id[4:]) for each in record.gate_rows) == list(range(400))
    assert record.problems == ()


def _write_in_turn(folder: Path) -> None:
    for number in range(100):
        Evidence(folder).write_text("SUMMARY.md", "ab"[number % 2] * 300_000)


def test_a_reader_never_sees_half_a_file(evidence: Evidence) -> None:
    evidence.write_text("SUMMARY.md", "a" * 300_000)
    writer = multiprocessing.get_context("fork").Process(
        target=_write_in_turn, args=(evidence.folder,)
    )
    writer.start()

    seen = set()
    while writer.is_alive():
        text = evidence.read_text("SUMMARY.md") or ""
        seen.add((len(text), *sorted(set(text))))
    writer.join()

    assert seen <= {(300_000, "a"), (300_000, "b")}
    assert [file.name for file in evidence.folder.glob(".*")] == []


def test_a_reader_of_rows_never_sees_half_a_row(evidence: Evidence) -> None:
    writer = multiprocessing.get_context("fork").Process(
        target=_add_rows, args=(evidence.folder, 0)
    )
    writer.start()

    counts: list[int] = []
    problems: list[Problem] = []
    while writer.is_alive():
        record = evidence.verified_record()
        counts.append(len(record.gate_rows))
        problems += record.problems
    writer.join()

    assert counts == sorted(counts)
    assert problems == []
    assert len(evidence.record().gate_rows) == 50


@pytest.mark.parametrize("torn", [b"{", b'{"gate": "two", "sta', b"x" * 5000, b'{"a": 1}'])
@pytest.mark.parametrize("name", ["gate-results.jsonl", "cohort-results.jsonl"])
def test_a_row_without_its_line_end_was_never_written(
    name: str, torn: bytes, evidence: Evidence
) -> None:
    """Also where it is the first, and where it is whole but for its end."""
    (evidence.folder / name).write_bytes(torn)

    before = evidence.verified_record()
    evidence.add_gate_row(row(1))
    evidence.add_cohort_row(CohortRow(cohort_percent=5, status="passed", attempt=1, run_id="run-1"))
    after = evidence.verified_record()

    assert (before.gate_rows, before.cohort_rows, before.problems) == ((), (), ())
    assert (len(after.gate_rows), len(after.cohort_rows), after.problems) == (1, 1, ())
    assert len((evidence.folder / name).read_bytes().splitlines()) == 1


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


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"], ids=ascii)
def test_a_row_may_hold_any_character(separator: str, evidence: Evidence) -> None:
    odd = row(1).model_copy(update={"detail": f"one{separator}two"})
    evidence.add_gate_row(odd)
    evidence.add_gate_row(row(2))

    record = evidence.verified_record()

    assert record.problems == ()
    assert record.gate_rows == (odd, row(2))


def _every_loss(rows: int) -> Sequence[tuple[int, ...]]:
    """What may be left of so many rows when at least one is gone."""
    return list(chain.from_iterable(combinations(range(rows), left) for left in range(rows)))


@pytest.mark.parametrize("left", _every_loss(4), ids=str)
def test_no_row_can_be_removed_without_a_block_that_names_its_file(
    left: tuple[int, ...], plan: Plan, evidence: Evidence, clock: FakeClock
) -> None:
    """Least of all the one that failed."""
    outcomes: list[tuple[str, Status]] = [
        ("one", "failed"), ("one", "passed"), ("two", "passed"), ("two", "failed"),
    ]  # fmt: skip
    for name, status in outcomes:
        evidence.add_gate_row(row(1, name).model_copy(update={"status": status}))
    for percent in plan.cohorts:
        evidence.add_cohort_row(
            CohortRow(cohort_percent=percent, status="passed", attempt=1, run_id="run-1")
        )
    attempts.end(evidence, "run-1", "finished", None, clock)
    file = evidence.folder / "gate-results.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[number] for number in left))

    decision = decide(evidence.verified_record())

    assert not decision.allowed
    assert any(
        reason.evidence == "gate-results.jsonl" and reason.text.startswith("gate-results.jsonl ")
        for reason in decision.reasons
    )


@pytest.mark.parametrize(
    "line",
    [
        b"null\n",
        b"[]\n",
        b"\n",
        b"{}\n",
        b'{"gate": "one", "status": "perfect", "attempt": 1, "run_id": "r"}\n',
        b'{"gate": "one", "status": "passed", "attempt": "1", "run_id": "r"}\n',
        b'{"gate": "one", "status": "passed", "attempt": 0, "run_id": "r"}\n',
        b"\xff\xfe\n",
    ],
)
def test_a_line_that_is_no_row_is_a_problem_that_is_named(line: bytes, evidence: Evidence) -> None:
    (evidence.folder / "gate-results.jsonl").write_bytes(line)

    assert evidence.record().problems == (Problem("gate-results.jsonl", "line 1 is not a row"),)


def test_a_file_of_rows_that_cannot_be_read_is_a_problem(finished: Evidence) -> None:
    (finished.folder / "gate-results.jsonl").unlink()
    (finished.folder / "gate-results.jsonl").mkdir()

    decision = decide(finished.verified_record())

    assert not decision.allowed
    assert decision.reasons[0].text == "gate-results.jsonl cannot be read: Is a directory"


def test_a_folder_is_only_made_where_nothing_is(evidence: Evidence, tmp_path: Path) -> None:
    header = evidence.header()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / ".hidden").touch()

    with pytest.raises(FileExistsError):
        Evidence.create(taken, header)
    with pytest.raises(FileExistsError):
        Evidence.create(evidence.folder, header)

    assert [file.name for file in taken.iterdir()] == [".hidden"]
    assert Evidence.create(tmp_path / "new/and/deep", header).header() == header


@pytest.mark.parametrize("folder", ["/proc/no-such-thing", "/dev/null/rollout"])
def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(
    folder: str, evidence: Evidence
) -> None:
    with pytest.raises(OSError, match=folder.rpartition("/")[0]):
        Evidence.create(Path(folder), evidence.header())


def test_a_file_is_readable_by_everybody_once_it_is_there(evidence: Evidence) -> None:
    evidence.write_text("SUMMARY.md", "text")

    assert (evidence.folder / "SUMMARY.md").stat().st_mode & 0o777 == 0o644


def test_steps_are_in_flight_side_by_side(evidence: Evidence) -> None:
    first, second = (
        InFlight(step=step, phase="running", started_at="s", attempt=1, run_id="r")
        for step in ("gate one", "gate two")
    )
    evidence.set_in_flight(first)
    evidence.set_in_flight(second)
    later = second.model_copy(update={"phase": "soak"})
    evidence.set_in_flight(later)

    assert evidence.all_in_flight() == [first, later]
    evidence.clear_in_flight("gate one")
    evidence.clear_in_flight("gate one")
    assert evidence.all_in_flight() == [later]


def test_what_is_in_flight_and_cannot_be_read_is_as_if_it_were_not(evidence: Evidence) -> None:
    evidence.set_in_flight(
        InFlight(step="gate one", phase="running", started_at="s", attempt=1, run_id="r")
    )
    [file] = (evidence.folder / "in-flight").iterdir()
    file.write_text("{")

    assert evidence.in_flight("gate one") is None
    assert evidence.all_in_flight() == []


def test_the_tail_of_a_file_is_its_last_lines(evidence: Evidence) -> None:
    evidence.write_text("log", "".join(f"line {number}\n" for number in range(10_000)))

    assert evidence.tail("log", 2) == "line 9998\nline 9999"
    assert evidence.tail("no-such-file", 2) == ""
