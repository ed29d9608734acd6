"""What somebody may do to a rollout's folder so that a reader believes it, waits for it, or falls.

Each takes a golden folder of an `allow`. `RENAMED` are those after which the folder's files are all
named by `decision.json` as they are, so that its derivation is what has to find them.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from canary_pipeline.reports.decided import write_decision
from canary_pipeline.reports.statement import EXTENSION
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.golden.decided import DECIDED

GOLDEN = DECIDED / "schema-1"
ALLOW = GOLDEN / "allow"

Forgery = Callable[[Path], object]

DEEP = "[" * 100_000 + "]" * 100_000
HUGE = 1 << 40
"""Bytes of a sparse file: no reader can hold them."""


def replaced(name: str, text: str, instead: str) -> Forgery:
    """Replace what is there once or more."""

    def forge(folder: Path) -> None:
        before = (folder / name).read_text()
        assert text in before
        (folder / name).write_text(before.replace(text, instead))

    return forge


def renamed(forgery: Forgery) -> Forgery:
    """Let `decision.json` name the files as they are after it."""

    def forge(folder: Path) -> None:
        forgery(folder)
        file = folder / "decision.json"
        said = json.loads(file.read_text())
        said["predicate"][EXTENSION]["files"] = dict(sorted(Evidence(folder).digests().items()))
        file.write_text(json.dumps(said, indent=1) + "\n")

    return forge


def derived_again(**changes: Any) -> Forgery:
    """Change the header, and write everything that follows from it as the product does."""

    def forge(folder: Path) -> None:
        file = folder / "rollout.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}, indent=2) + "\n")
        evidence = Evidence(folder)
        write_decision(evidence, evidence.verified_record())

    return forge


def instead_of(name: str, make: Callable[[Path], object]) -> Forgery:
    """Put something else where a file was."""

    def forge(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return forge


def rows_of_another(folder: Path) -> None:
    for name in ("cohort-results.jsonl", "cohort-5.json"):
        shutil.copy(GOLDEN / "block" / name, folder / name)


def rows_of_another_derived_again(folder: Path) -> None:
    rows_of_another(folder)
    derived_again(sealed={})(folder)


def twice_under_names_that_look_alike(folder: Path) -> None:
    for name in ("e\u0301", "\u00e9"):
        (folder / "logs" / name).write_text(name)


GATES, COHORTS = "gate-results.jsonl", "cohort-results.jsonl"
HEADER, DECISION = "rollout.json", "decision.json"
LOG = "logs/gate-spacetime-chaos.log"

FORGERIES: dict[str, Forgery] = {
    "cohorts cut": replaced(HEADER, '"cohorts": [\n    5,', '"cohorts": ['),
    "rows of another rollout": rows_of_another,
    "the summary replaced": lambda folder: (folder / "SUMMARY.md").write_text("Decision: allow\n"),
    "the summary removed": lambda folder: (folder / "SUMMARY.md").unlink(),
    "the decision removed": lambda folder: (folder / DECISION).unlink(),
    "the decision emptied": lambda folder: (folder / DECISION).write_text(""),
    "the decision nothing": lambda folder: (folder / DECISION).write_text("null"),
    "keys twice": replaced(DECISION, '"decision": "', '"decision": "block", "decision": "'),
    "a key that is no number": replaced(DECISION, '"_type"', '"x": NaN, "_type"'),
    "a key nested": replaced(DECISION, '"_type"', f'"x": {"[" * 150}{"]" * 150}, "_type"'),
    "a key nested without end": replaced(DECISION, '"_type"', f'"x": {DEEP}, "_type"'),
    "a key with many digits": replaced(DECISION, '"_type"', f'"x": {"9" * 5000}, "_type"'),
    "another schema": replaced(DECISION, '"schema": 1', '"schema": 2'),
    "a header nested without end": lambda folder: (folder / HEADER).write_text(DEEP),
    "rows nested without end": renamed(replaced(GATES, '"gate":', f'"x": {DEEP}, "gate":')),
    "rows with half a character": renamed(replaced(GATES, '"gate":', r'"x": "\ud800", "gate":')),
    "rows with many digits": renamed(replaced(GATES, '"attempt": 1', f'"attempt": 1{"0" * 5000}')),
    "a time that is none": renamed(replaced(COHORTS, 'ed_seconds": 2', 'ed_seconds": NaN')),
    "a log elsewhere": renamed(replaced(GATES, '"log_file": "', '"log_file": "/dev/zero", "x": "')),
    "a log with no name": renamed(replaced(GATES, 'file": "', r'file": "\u0000", "x": "')),
    "limits that are none": renamed(replaced(HEADER, '"limits": [', '"limits": [\n"no",')),
    "a start long ago": renamed(replaced(HEADER, '"started_at": "2', '"started_at": "1')),
    "a header that is a pipe": instead_of(HEADER, os.mkfifo),
    "rows that are a pipe": instead_of(GATES, os.mkfifo),
    "a summary that is a pipe": instead_of("SUMMARY.md", os.mkfifo),
    "a decision that is a pipe": instead_of(DECISION, os.mkfifo),
    "a log that is a pipe": instead_of(LOG, os.mkfifo),
    "a header without end": instead_of(HEADER, lambda path: path.symlink_to("/dev/zero")),
    "rows that are a link": instead_of(GATES, lambda path: path.symlink_to(ALLOW / GATES)),
    "a folder for a header": instead_of(HEADER, Path.mkdir),
    "a huge decision": lambda folder: os.truncate(folder / DECISION, HUGE),
    "a log more": lambda folder: (folder / "logs" / "odd").write_text(""),
    "a name that is no text": lambda folder: (folder / "logs" / "\udcff\n").write_text(""),
    "names that look alike": twice_under_names_that_look_alike,
}  # fmt: skip
"""Nobody can rely on what is left."""

CONSISTENT: dict[str, tuple[str, Forgery]] = {
    "nothing at all": ("allow", lambda _: None),
    "cohorts cut, and derived again": ("block", derived_again(cohorts=[5, 25])),
    "rows of another rollout, and derived again": ("block", rows_of_another_derived_again),
    "withdrawn, and derived again": ("block", derived_again(withdrawn="another has")),
    "another commit, and derived again": ("allow", derived_again(commit="0" * 40)),
    "a shorter soak, and derived again": ("allow", derived_again(soak_seconds=1)),
    "a pipe for what passes": ("allow", lambda folder: _pipe(folder / "in-flight" / "a.json")),
}
"""The folder is consistent, whoever made it so: only a signature tells."""


def _pipe(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
