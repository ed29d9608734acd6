"""Whether a decision can be relied on: read-only, of a folder that may come from anywhere."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from canary_pipeline.model.environment import DEMO
from canary_pipeline.model.moment import moment_of, rfc3339
from canary_pipeline.outside.signature import Signers, problem_of
from canary_pipeline.reports.decided import derived
from canary_pipeline.reports.statement import Details, Statement, cohort_name
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence, NotARolloutError

CLOCKS_APART = timedelta(minutes=1)
"""How far the clock of the host that decided may be ahead of the one that verifies."""


@dataclass(frozen=True)
class Demands:
    """What whoever promotes asks of a decision beyond that it follows from its folder.

    Attributes:
        commit: The full id of what is to be promoted.
        max_age: How old the newest evidence may be that it rests on.
        signers: Who must have signed it.
        cohorts: Percents that the rollout must have gone through.
        soak_seconds: How long each of its cohorts must at least have soaked.
        demo: Whether it is a demo that is asked for.
        environment: What must have been rolled out to.
    """

    commit: str | None = None
    max_age: timedelta | None = None
    signers: Signers | None = None
    cohorts: tuple[int, ...] = ()
    soak_seconds: int = 0
    demo: bool = False
    environment: str | None = None

    def ask_for(self, environment: str) -> bool:
        """Whether a rollout to this environment is asked for; a demo only by its own flag."""
        return (environment == DEMO) == self.demo and self.environment in (None, environment)


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        folder: The rollout's folder.
        reasons: Why nobody can rely on the decision; empty where one can.
        changed: The files that are not as they were decided on.
        statement: `decision.json`, where it can be read.
        data: The same as it is written.
        signer: Who was asked for and has signed it.
    """

    folder: Path
    reasons: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    statement: Statement | None = None
    data: bytes = b""
    signer: str | None = None

    @property
    def answer(self) -> Literal["allow", "block", "none"]:
        """The decision, as far as one can rely on it."""
        if self.reasons or self.statement is None:
            return "none"
        return self.statement.details.decision

    @property
    def sha256(self) -> str | None:
        """The digest of `decision.json`, where there is one."""
        return sha256(self.data).hexdigest() if self.data else None

    def __str__(self) -> str:
        """The answer as a line, with what it rests on."""
        if self.answer == "none":
            return "Decision: none that one can rely on"
        signed = f"signed by {self.signer}" if self.signer else "unsigned"
        return f"Decision: {self.answer} (consistent, {signed})"


def check(evidence: Evidence) -> Verification:
    """Whether a decision follows from all else that its folder holds, whoever wrote that."""
    files = evidence.digests()
    unreadable = {name: "is nothing that can be read" for name in sorted(files) if not files[name]}
    if unreadable:
        return _found(evidence, unreadable)
    if not evidence.exists(layout.DECISION):
        return _found(evidence, {layout.DECISION: f"is missing{_why_none(evidence)}"})
    data = evidence.read_bytes(layout.DECISION)
    statement = statement_of(data)
    if statement is None:
        return _found(evidence, {layout.DECISION: "is not as this version knows it (schema 1)"})
    changed = dict(_changed(files, statement.details.files)) or _not_derived(evidence, files, data)
    return replace(_found(evidence, changed), statement=statement, data=data)


def statement_of(data: bytes) -> Statement | None:
    """A statement of the schema that this version knows, or None."""
    try:
        return Statement.model_validate_json(data)
    except ValidationError:
        return None


def _found(evidence: Evidence, changed: dict[str, str]) -> Verification:
    """What is wrong with which files, as a verification."""
    shown = {name: "the folder" if name == "." else name for name in changed}
    reasons = tuple(f"{shown[name]} {how}" for name, how in changed.items())
    return Verification(evidence.folder, reasons, tuple(changed))


def _why_none(evidence: Evidence) -> str:
    try:
        header = evidence.header()
    except NotARolloutError as error:
        return f", and {error}"
    last = header.last_attempt
    if last is not None and last.outcome is None:
        return f": attempt {last.attempt} is under way, or was killed"
    if header.decided_at is None:
        return ": nothing was decided, or by a version that wrote none"
    return ""


def _changed(files: dict[str, str], listed: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted(files.keys() | listed.keys()):
        if name not in files:
            yield name, f"is missing, and {layout.DECISION} names it"
        elif name not in listed:
            yield name, f"was added: {layout.DECISION} does not name it"
        elif files[name] != listed[name]:
            yield name, f"is not the file that {layout.DECISION} names"


def _not_derived(evidence: Evidence, files: dict[str, str], data: bytes) -> dict[str, str]:
    """What does not follow from the folder although every file is the one that was named."""
    try:
        should_be = derived(evidence, evidence.verified_record(files), files)
    except Exception as error:  # noqa: BLE001 - whatever its files hold, an answer is given
        return {layout.DECISION: f"cannot be derived ({type(error).__name__})"}
    if should_be.summary != evidence.read_bytes(layout.SUMMARY):
        return {layout.SUMMARY: "is not what follows from the folder"}
    if should_be.statement != data:
        return {layout.DECISION: "is not what follows from the folder"}
    return {}


def verify(evidence: Evidence, demands: Demands, now: datetime) -> Verification:
    """Whether a decision can be relied on for a promotion.

    Args:
        evidence: The rollout's folder.
        demands: What is asked of it.
        now: The time.
    """
    found, signers = check(evidence), demands.signers
    if found.reasons or found.statement is None:
        return found
    reasons = _unmet(found.statement, evidence, demands, now)
    if signers is None:
        return replace(found, reasons=reasons)
    unsigned = _unsigned(found, signers)
    if unsigned is not None:
        return replace(found, reasons=(unsigned, *reasons))
    return replace(found, reasons=reasons, signer=signers.name)


def _unsigned(found: Verification, signers: Signers) -> str | None:
    signature = found.folder / layout.SIGNATURE
    if not signature.is_file():
        return f"{layout.SIGNATURE} is missing: the decision is not signed"
    why = problem_of(found.data, signature, signers)
    return None if why is None else f"{layout.SIGNATURE}: {why}"


def _unmet(
    statement: Statement, evidence: Evidence, demands: Demands, now: datetime
) -> tuple[str, ...]:
    """What of the demands is not met, in the order in which people ask."""
    said = statement.details
    found = [_commit(statement, demands), _age(said, evidence, demands, now)]
    found += [_cohorts(statement, demands), _soak(statement, demands)]
    if not demands.ask_for(said.environment):
        found.append(f"it is a rollout of {said.environment}, which was not asked for")
    return tuple(reason for reason in found if reason is not None)


def _commit(statement: Statement, demands: Demands) -> str | None:
    if demands.commit is None:
        return None
    if any(item.digest.get("gitCommit") == demands.commit for item in statement.subject):
        return None
    said = statement.details
    where = " and ".join(said.commits) or "an unknown commit"
    return f"it is not on commit {demands.commit}: {where}{' with changes' * bool(said.dirty)}"


def _age(said: Details, evidence: Evidence, demands: Demands, now: datetime) -> str | None:
    decided_at = moment_of(said.decided_at)
    if decided_at is None:
        return "nobody knows when it was decided"
    if decided_at > now + CLOCKS_APART:
        return f"it is from the future: {said.decided_at}"
    if demands.max_age is None:
        return None
    # Every attempt decides anew, and may have nothing left to run.
    seen_at = min(evidence.record().tested_until or decided_at, decided_at)
    if now - seen_at > demands.max_age:
        return f"it is too old: its newest evidence is of {rfc3339(seen_at)}"
    return None


def _cohorts(statement: Statement, demands: Demands) -> str | None:
    unprobed = statement.predicate.warned_tests
    missing = [
        str(percent)
        for percent in demands.cohorts
        if percent not in statement.details.cohorts or cohort_name(percent) in unprobed
    ]
    return f"nobody probed a cohort of {', '.join(missing)} %" if missing else None


def _soak(statement: Statement, demands: Demands) -> str | None:
    soak = 0 if statement.predicate.warned_tests else statement.details.soak_seconds
    if soak >= demands.soak_seconds:
        return None
    return f"its cohorts soaked {soak} s, and {demands.soak_seconds} s are asked for"
