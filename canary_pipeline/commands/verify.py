"""`canary-rollout verify` and `sign`: a decision for whoever promotes on it."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from canary_pipeline.commands.exits import BadInputError, Exit, NoDecisionError
from canary_pipeline.model.plan import parse_cohorts
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.signature import SignatureError, Signers, sign
from canary_pipeline.reports.verification import (
    Demands,
    Verification,
    check,
    verify,
    verify_newest,
)
from canary_pipeline.settings import SettingError
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence

EXITS = {"allow": Exit.ALLOW, "block": Exit.BLOCK, "none": Exit.NO_DECISION}

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def demands_of(
    *,
    commit: str | None,
    max_age: str | None,
    signers: Path | None,
    signer: str | None,
    revoked: Path | None,
    cohorts: str | None,
    soak_seconds: int,
    demo: bool,
) -> Demands:
    """What the flags ask for.

    Raises:
        SettingError: When a flag has a value that is not accepted, or lacks another one.
    """
    if commit is not None and not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit.lower()):
        raise SettingError("--commit", repr(commit), "the full id of a commit")
    if bool(signers) != bool(signer) or (revoked and not signers):
        said = "given without the others" if revoked else "given alone"
        raise SettingError("--signers, --signer or --revoked", said, "a file and a name in it")
    return Demands(
        commit=commit.lower() if commit else None,
        max_age=_age(max_age) if max_age is not None else None,
        signers=Signers(signers, signer, revoked) if signers and signer else None,
        cohorts=_cohorts(cohorts) if cohorts is not None else (),
        soak_seconds=soak_seconds,
        demo=demo,
    )


def _age(text: str) -> timedelta:
    found = re.fullmatch("([0-9]{1,6})([smhd])", text)
    if found is None:
        raise SettingError("--max-age", repr(text), "a number with s, m, h or d, such as 24h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _cohorts(text: str) -> tuple[int, ...]:
    try:
        return parse_cohorts(text)
    except ValueError:
        accepted = "percents from 1 to 100, increasing, such as 5,25,100"
        raise SettingError("--cohorts", repr(text), accepted) from None


def tell(folder: Path, demands: Demands, *, as_json: bool) -> Exit:
    """Verify a rollout, or the newest one below a root, and print what was found.

    Raises:
        BadInputError: When there is no such folder.
    """
    if not folder.is_dir():
        message = f"{folder} is no folder: accepted is a rollout's, or one that holds such folders"
        raise BadInputError(message)
    folder, now = folder.absolute(), datetime.now(UTC)
    is_one = any((folder / name).exists() for name in layout.OF_A_ROLLOUT)
    found = (
        verify(Evidence(folder), demands, now) if is_one else verify_newest(folder, demands, now)
    )
    print(json.dumps(_fields(found)) if as_json else _words(found))
    return EXITS[found.answer]


def _fields(found: Verification) -> dict[str, object]:
    return {
        "answer": found.answer,
        "folder": str(found.folder),
        "reasons": found.reasons,
        "changed": found.changed,
        "signer": found.signer,
        "sha256": found.sha256,
        "decision": json.loads(found.data) if found.statement else None,
    }


def _words(found: Verification) -> str:
    lines = [f"rollout: {found.folder}"]
    if found.statement is not None:
        said = found.statement.details
        commits = " and ".join(said.commits) or "unknown"
        lines.append(f"decided at: {said.decided_at}")
        lines.append(f"commit: {commits}{', with changes' if said.dirty else ''}")
        lines += [f"blocks: {why.text} (evidence: {why.evidence})" for why in said.reasons]
    lines += [f"unreliable: {reason}" for reason in found.reasons]
    lines.append(str(found))
    return "\n".join(map(one_line, lines))


def sign_decision(folder: Path, key: Path | None) -> Exit:
    """Sign a decision that follows from its folder, in the name of whoever holds the key.

    Raises:
        BadInputError: When no key is named.
        NoDecisionError: When the decision cannot be relied on, or the key cannot sign it.
    """
    if key is None:
        message = "no key: accepted is --key FILE, or the variable of the setting signing_key"
        raise BadInputError(message)
    evidence = Evidence(folder.absolute())
    found = check(evidence)
    if found.answer == "none":
        message = f"not signed: {'; '.join(found.reasons)}"
        raise NoDecisionError(message)
    try:
        evidence.write_bytes(layout.SIGNATURE, sign(found.data, key, may_ask=True))
    except SignatureError as error:
        message = f"not signed: {error}"
        raise NoDecisionError(message) from None
    print(f"signed: {evidence.folder / layout.SIGNATURE} (decision: {found.answer})")
    return Exit.ALLOW
