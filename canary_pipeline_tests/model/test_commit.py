"""Which commit a decision is about."""

from typing import Any

import pytest

from canary_pipeline.model import commit
from canary_pipeline.model.record import Record
from canary_pipeline_tests.builders import attempt, gate, header

AT_A = attempt(commit="a", dirty=False)


@pytest.mark.parametrize(
    ("attempts", "gates", "commits", "dirty", "words"),
    [
        ([AT_A], [gate("one", commit="a", dirty=False)], ("a",), False, "a"),
        ([AT_A], [gate("one", commit="a", dirty=True)], ("a",), True,
         "a, with uncommitted changes"),
        ([AT_A], [gate("one", commit="a", commit_after="b")], ("a", "b"), False,
         "gates ran at a and at b"),
        ([AT_A, attempt(2, anew=True, commit="b", dirty=False)], [gate("one", commit="a")],
         ("b",), False, "b"),
        ([attempt()], [gate("one")], ("old",), True, "old, with uncommitted changes"),
    ],
)  # fmt: skip
def test_what_was_tested(
    attempts: list[Any], gates: list[Any], commits: tuple[str, ...], *, dirty: bool, words: str
) -> None:
    """Of a rollout that an older version opened at `old`, with changes."""
    record = Record(header(attempts=attempts, commit="old", dirty=True), tuple(gates), (), (), ())

    found = commit.tested(record)

    assert (found, str(found)) == (commit.Tested(commits, dirty), words)
    assert found.clean_commit == (commits[0] if len(commits) == 1 and not dirty else None)


def test_a_checkout_without_version_control_is_said_to_be_unknown() -> None:
    found = commit.tested(Record(header(), (), (), (), ()))

    assert found == commit.Tested((), None)
    assert str(found).startswith("unknown")
