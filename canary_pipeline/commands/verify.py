"""`canary-rollout verify` and `sign`: a decision for whoever promotes on it."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from canary_pipeline.commands.exits import (
    BadInputError,
    Exit,
    NoDecisionError,
    answers,
    exit_of_answer,
)
from canary_pipeline.commands.shared import bring_decisions, brought
from canary_pipeline.environments import STAGING
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.signature import SignatureError, Signers, sign
from canary_pipeline.reports.newest import verify_newest
from canary_pipeline.reports.verification import (
    Demands,
    Verification,
    check,
    verify,
)
from canary_pipeline.settings import SettingError, setting_of, variable_of
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence

COHORTS = setting_of(STAGING, "cohorts")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

NO_FOLDER = "{} is no folder: accepted is a rollout's, or one that holds such folders"

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _commit(text: str | None) -> str | None:
    if text is None or re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", text.lower()):
        return text and text.lower()
    raise SettingError("--commit", repr(text), "the full id of a commit")


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch("([0-9]{1,6})([smhd])", text)
    if found is None:
        raise SettingError("--max-age", repr(text), "a number with s, m, h or d, such as 24h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _signers(file: Path | None, name: str | None, revoked: Path | None) -> Signers | None:
    if file and name:
        return Signers(file, name, revoked)
    if file is None and name is None and revoked is None:
        return None
    said = "given without the others"
    raise SettingError("--signers, --signer or --revoked", said, "a file and a name in it")


def tell(folder: Path, demands: Demands, *, as_json: bool) -> Exit:
    """Verify a rollout, or the newest one below a root, and print what was found.

    Raises:
        BadInputError: When there is no such folder.
    """
    if not folder.is_dir():
        raise BadInputError(NO_FOLDER.format(folder))
    folder, now = folder.absolute(), datetime.now(UTC)
    if any((folder / name).exists() for name in layout.OF_A_ROLLOUT):
        found = verify(Evidence(folder), demands, now)
    else:
        bring_decisions(folder, demands)
        found = verify_newest(folder, demands, now)
    print(json.dumps(_fields(found)) if as_json else _words(found))
    return exit_of_answer(found.answer)


def _fields(found: Verification) -> dict[str, object]:
    return {
        "answer": found.answer,
        "folder": str(found.folder),
        "reasons": found.reasons,
        "changed": found.changed,
        "signer": found.signer,
        "sha256": found.sha256,
        "decision": json.loads(found.data) if found.answer != "none" else None,
    }


def _words(found: Verification) -> str:
    lines = [f"rollout: {found.folder}"]
    if found.statement is not None:
        said = found.statement.details
        commits = " and ".join(said.commits) or "unknown"
        lines.append(f"decided at: {said.decided_at}")
        lines.append(f"commit: {commits}{', with changes' if said.dirty else ''}")
        lines += [] if said.probes_live else ["no cohort was probed"]
        lines += [f"blocks: {why.text} (evidence: {why.evidence})" for why in said.reasons]
    lines += [f"unreliable: {reason}" for reason in found.reasons]
    lines.append(str(found))
    return "\n".join(map(one_line, lines))


def sign_decision(folder: Path, key: Path | None) -> None:
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


@click.command()
@click.argument("folder", metavar="FOLDER|NAME|ROOT")
@click.option("--commit", metavar="SHA", help="What is to be promoted.")
@click.option("--max-age", metavar="24h", help="How old its newest evidence may be: s, m, h or d.")
@click.option("--signers", metavar="FILE", type=FILE, help="Allowed signers, as git has them.")
@click.option("--signer", metavar="NAME", help="Which of them must have signed.")
@click.option("--revoked", metavar="FILE", type=FILE, help="Keys that count no more.")
@click.option("--cohorts", metavar="5,25,100", help="Cohorts that must have been probed.")
@click.option(
    "--cohort-soak-seconds",
    "soak_seconds",
    default=0,
    type=click.IntRange(0),
    help="How long each must have soaked.",
)
@click.option("--environment", metavar="NAME", help="What must have been rolled out to.")
@click.option("--demo", is_flag=True, help="It is a demo that is asked for.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def verify_command(
    *,
    folder: str,
    as_json: bool,
    commit: str | None,
    max_age: str | None,
    signers: Path | None,
    signer: str | None,
    revoked: Path | None,
    cohorts: str | None,
    **others: Any,
) -> None:
    """Tell whether one can rely on a decision: on a rollout's, or on the newest one below ROOT.

    Reads only. Exit codes: 0 an allow, 1 a believable block, 2 bad input, 3 nothing to rely on.
    """
    with answers():
        demands = Demands(
            commit=_commit(commit),
            max_age=_age(max_age),
            signers=_signers(signers, signer, revoked),
            cohorts=() if cohorts is None else COHORTS.read("--cohorts", cohorts),
            **others,
        )
        if not folder:
            raise BadInputError(NO_FOLDER.format("an empty name"))
        sys.exit(tell(brought(folder) or Path(folder), demands, as_json=as_json))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key",
    metavar="FILE",
    type=FILE,
    envvar=variable_of(STAGING, "signing_key"),
    show_envvar=True,
    help="The SSH key, or a public one whose private half is in the agent.",
)
def sign_command(folder: Path, key: Path | None) -> None:
    """Verify a decision, then sign it: as a second person, or where no gate ever runs."""
    with answers():
        sign_decision(folder, key)
