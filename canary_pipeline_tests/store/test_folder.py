"""A reader never sees half a file or half a row, and edited evidence is not believed."""

import inspect
import json
import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.model.decision import decide
from canary_pipeline.model.record import InFlight, Problem
from canary_pipeline.model.rows import GateRow
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline_tests.builders import add, cohort, gate, passed
from canary_pipeline_tests.conftest import TOKEN, files_with

GATE_ROWS, COHORT_ROWS = "gate-results.jsonl", "cohort-results.jsonl"


def row(number: int, name: str = "one") -> GateRow:
    """A row that tells itself apart from others of its attempt."""
    return gate(name, detail=str(number))


def _add_rows(folder: Path, first: int) -> None:
    add(Evidence(folder), *(row(number) for number in range(first, first + 50)))


def _write_in_turn(folder: Path, _: int) -> None:
    for number in range(100):
        Evidence(folder).write_text("SUMMARY.md", "ab"[number % 2] * 300_000)


def forked(work: Callable[[Path, int], None], evidence: Evidence, *numbers: int) -> list[Any]:
    context = multiprocessing.get_context("fork")
    found = [context.Process(target=work, args=(evidence.folder, number)) for number in numbers]
    for process in found:
        process.start()
    return found


def test_rows_that_many_processes_add_at_once_are_all_whole(evidence: Evidence) -> None:
    for writer in forked(_add_rows, evidence, *range(0, 400, 50)):
        writer.join()

    record = evidence.verified_record()
    assert sorted(int(each.detail or "") for each in record.gate_rows) == list(range(400))
    assert record.problems == ()


def test_a_reader_never_sees_half_a_file(evidence: Evidence) -> None:
    evidence.write_text("SUMMARY.md", "a" * 300_000)
    [writer] = forked(_write_in_turn, evidence, 0)

    seen = set()
    while writer.is_alive():
        text = evidence.read_text("SUMMARY.md") or ""
        seen.add((len(text), *sorted(set(text))))

    assert seen <= {(300_000, "a"), (300_000, "b")}
    assert [file.name for file in evidence.folder.glob(".*")] == []
    assert (evidence.folder / "SUMMARY.md").stat().st_mode & 0o777 == 0o644


def test_a_reader_of_rows_never_sees_half_a_row(evidence: Evidence) -> None:
    [writer] = forked(_add_rows, evidence, 0)

    counts: list[int] = []
    problems: list[Problem] = []
    while writer.is_alive():
        record = evidence.verified_record()
        counts.append(len(record.gate_rows))
        problems += record.problems

    assert counts == sorted(counts)
    assert problems == []
    assert len(evidence.record().gate_rows) == 50


@pytest.mark.parametrize("torn", [b"{", b'{"gate": "two", "sta', b"x" * 5000, b'{"a": 1}'])
@pytest.mark.parametrize("before", [(), (row(1),)])
def test_a_row_without_its_line_end_was_never_written(
    before: tuple[GateRow, ...], torn: bytes, evidence: Evidence
) -> None:
    """Also where it is the first, and where it is whole but for its end."""
    add(evidence, *before)
    with (evidence.folder / GATE_ROWS).open("ab") as file:
        file.write(torn)

    read = evidence.verified_record()
    add(evidence, row(2))
    after = evidence.verified_record()

    assert (read.gate_rows, read.problems) == (before, ())
    assert (after.gate_rows, after.problems) == ((*before, row(2)), ())
    assert len((evidence.folder / GATE_ROWS).read_bytes().splitlines()) == len(before) + 1


def _fill_up(folder: Path, _: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    with pytest.raises(OSError, match="File too large"):
        Evidence(folder).write_text("SUMMARY.md", "x" * 3000)
    with pytest.raises(OSError, match="File too large"):
        _add_rows(folder, 0)


def test_a_full_disk_leaves_what_was_written_whole(evidence: Evidence) -> None:
    evidence.write_text("SUMMARY.md", "before")
    [child] = forked(_fill_up, evidence, 0)
    child.join()

    assert child.exitcode == 0
    assert evidence.read_text("SUMMARY.md") == "before"
    lines = (evidence.folder / GATE_ROWS).read_text().splitlines(keepends=True)
    assert lines
    assert all(line.endswith("\n") and json.loads(line) for line in lines)
    assert not list(evidence.folder.glob(".SUMMARY*"))


def test_whatever_is_written_is_written_without_the_token(evidence: Evidence) -> None:
    evidence.write_bytes("cohort-5.json", TOKEN.encode())
    evidence.append(GATE_ROWS, {TOKEN: [{"a": TOKEN}]})
    with evidence.open_log("logs/gate-one.log") as log:
        log.write(TOKEN[:5].encode())
        log.write(TOKEN[5:].encode())
    evidence.set_in_flight(in_flight(TOKEN))

    assert files_with(TOKEN, evidence.folder) == []
    assert len(files_with("[redacted]", evidence.folder)) == 4


# -- what somebody changed --------------------------------------------------------------------


@pytest.fixture
def finished(context: Context) -> Context:
    """A rollout that is allowed."""
    evidence = context.evidence
    for name in ("logs/gate-one.log", "cohort-5.json"):
        evidence.write_text(name, "fine\n")
    log, body = map(evidence.sha256, ("logs/gate-one.log", "cohort-5.json"))
    _, two, _, hundred = passed(context.plan)
    one = gate("one", log_file="logs/gate-one.log", log_sha256=log)
    five = cohort(5, response_file="cohort-5.json", response_sha256=body)
    add(evidence, one, two, five, hundred)
    assert conclude(context, "finished").allowed
    return context


@pytest.mark.parametrize("name", [GATE_ROWS, COHORT_ROWS, "logs/gate-one.log", "cohort-5.json"])
@pytest.mark.parametrize("harm", ["emptied", "truncated", "overwritten", "removed"])
def test_evidence_that_was_tampered_with_blocks_and_is_named(
    name: str, harm: str, finished: Context
) -> None:
    file = finished.evidence.folder / name
    data = file.read_bytes()
    if harm == "removed":
        file.unlink()
    else:
        harmed = {"emptied": b"", "truncated": data[:-1], "overwritten": b"[1, 2]\n" + data[7:]}
        file.write_bytes(harmed[harm])

    reasons = decide(finished.evidence.verified_record()).reasons

    assert name in {reason.evidence for reason in reasons}


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
@pytest.mark.parametrize("name", [GATE_ROWS, COHORT_ROWS])
def test_rows_that_somebody_edited_block_and_their_file_is_named(
    edit: str, name: str, finished: Context
) -> None:
    file = finished.evidence.folder / name
    file.write_bytes(b"".join(EDITS[edit](file.read_bytes().splitlines(keepends=True))))

    decisions = [
        decide(finished.evidence.verified_record()),
        conclude(finished, "finished"),  # sealing hides nothing
        decide(finished.evidence.verified_record()),
    ]

    assert all(any(name in each.text for each in decision.reasons) for decision in decisions)


def _every_loss(rows: int) -> Sequence[tuple[int, ...]]:
    """What may be left of so many rows when at least one is gone."""
    return list(chain.from_iterable(combinations(range(rows), left) for left in range(rows)))


def test_no_row_can_be_removed_without_a_block_that_names_its_file(context: Context) -> None:
    """Least of all the one that failed."""
    add(context.evidence, gate("one", "failed"), *passed(context.plan), gate("two", "failed"))
    conclude(context, "finished")
    file = context.evidence.folder / GATE_ROWS
    lines = file.read_bytes().splitlines(keepends=True)

    for left in _every_loss(len(lines)):
        file.write_bytes(b"".join(lines[number] for number in left))
        texts = [reason.text for reason in decide(context.evidence.verified_record()).reasons]
        assert any(text.startswith(f"{GATE_ROWS} ") for text in texts), left


def test_rows_are_believed_of_an_attempt_that_the_header_knows_and_of_no_other(
    finished: Context,
) -> None:
    evidence = finished.evidence
    add(evidence, gate("one", of=2))
    strange = "holds rows of an attempt that rollout.json does not know"
    assert evidence.verified_record().problems == (Problem(GATE_ROWS, strange),)

    attempts.join(evidence, "run-2", "a test", finished.clock)

    assert evidence.verified_record().problems == ()


# -- what cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b"\xff"])
def test_a_folder_without_a_readable_header_is_no_rollout(
    content: bytes | None, evidence: Evidence
) -> None:
    header = evidence.folder / "rollout.json"
    header.unlink() if content is None else header.write_bytes(content)

    with pytest.raises(NotARolloutError, match=r"rollout\.json"):
        evidence.record()


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"], ids=ascii)
def test_a_row_may_hold_any_character(separator: str, evidence: Evidence) -> None:
    odd = gate("one", detail=f"one{separator}two")
    add(evidence, odd, row(2))

    record = evidence.verified_record()

    assert (record.gate_rows, record.problems) == ((odd, row(2)), ())


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
    (evidence.folder / GATE_ROWS).write_bytes(line)

    assert evidence.record().problems == (Problem(GATE_ROWS, "line 1 is not a row"),)


def test_a_file_is_found_deeper_than_functions_may_call_each_other(
    evidence: Evidence,
) -> None:
    deep = Path(*"d" * 200)
    (evidence.folder / deep).mkdir(parents=True)
    (evidence.folder / deep / "file").write_text("")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        found = evidence.digests()
    finally:
        sys.setrecursionlimit(before)

    assert found[f"{deep}/file"] == sha256(b"").hexdigest()


def test_a_file_of_rows_that_cannot_be_read_is_a_problem(evidence: Evidence) -> None:
    (evidence.folder / GATE_ROWS).mkdir()

    problem = Problem(GATE_ROWS, "cannot be read: Is a directory")
    assert problem in evidence.verified_record().problems


def test_a_folder_is_only_made_where_nothing_is(evidence: Evidence, tmp_path: Path) -> None:
    header = evidence.header()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / ".hidden").touch()

    for folder in (taken, evidence.folder):
        with pytest.raises(FileExistsError):
            Evidence.create(folder, header)
    for impossible in ("/proc/no-such-thing", "/dev/null/rollout"):
        with pytest.raises(OSError, match=impossible.rpartition("/")[0]):
            Evidence.create(Path(impossible), header)

    assert [file.name for file in taken.iterdir()] == [".hidden"]
    assert Evidence.create(tmp_path / "new/and/deep", header).header() == header


def test_a_folder_that_somebody_took_away_is_made_anew_with_its_header(evidence: Evidence) -> None:
    known = evidence.header()
    assert not evidence.rescue()
    evidence.folder.rename(evidence.folder.with_name("away"))

    assert evidence.rescue()

    assert evidence.header() == known


# -- steps in flight --------------------------------------------------------------------------


def in_flight(step: str) -> InFlight:
    return InFlight(step=step, phase="running", started_at="s", attempt=1, run_id="run-1")


def test_steps_in_flight_leave_no_trace_once_they_have_ended(evidence: Evidence) -> None:
    first, second = in_flight("gate one"), in_flight("gate two")
    later = second.model_copy(update={"phase": "soak"})
    for state in (first, second, later):
        evidence.set_in_flight(state)

    assert evidence.all_in_flight() == [first, later]
    evidence.clear_in_flight("gate one")
    evidence.clear_in_flight("gate one")
    assert evidence.all_in_flight() == [later]
    [file] = (evidence.folder / "in-flight").iterdir()
    file.write_text("{")
    assert (evidence.in_flight("gate two"), evidence.all_in_flight()) == (None, [])
    evidence.clear_in_flight("gate two")
    assert not (evidence.folder / "in-flight").exists()


def test_the_tail_of_a_file_is_its_last_lines(evidence: Evidence) -> None:
    evidence.write_text("log", "".join(f"line {number}\n" for number in range(10_000)))

    assert evidence.tail("log", 2) == "line 9998\nline 9999"
    assert evidence.tail("no-such-file", 2) == ""
