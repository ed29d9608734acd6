"""The life of a rollout: opened once, worked on by one attempt after another."""

import platform
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from pathlib import Path

from canary_pipeline.model.env_sequence import env_sequence_text
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.plan import Gate, Plan
from canary_pipeline.model.record import Attempt, Header
from canary_pipeline.outside.claim import lock_folder
from canary_pipeline.outside.clock import Clock
from canary_pipeline.outside.endpoints import URLS
from canary_pipeline.planning import Settings
from canary_pipeline.reports.decided import write_decision
from canary_pipeline.rollout.checkout import checkout_now
from canary_pipeline.rollout.next_attempt import next_attempt
from canary_pipeline.sources import by_flag
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal
from canary_pipeline.store.new_folder import whole_or_none


class RolloutMismatchError(Exception):
    """A rollout cannot go on with the settings at hand; the message says which differ."""


class FolderTakenError(Exception):
    """The folder asked for already holds something."""


def open_rollout(
    settings: Settings,
    folder_of: Callable[[datetime], Path],
    clock: Clock,
    *,
    named: bool = False,
    is_published: Callable[[str], bool] = lambda _name: False,
) -> Evidence:
    """Make the folder of a new rollout and write what it is going to be, or leave nothing.

    Args:
        settings: What the rollout does, and where it asks.
        folder_of: Its folder, by when it starts.
        clock: Names the folder. Two rollouts of one second get two seconds.
        named: Whether somebody asked for this very folder.
        is_published: Whether any host has published a rollout of a name.

    Raises:
        FolderTakenError: When the folder asked for is not empty, or its name published.
        FolderUnusableError: When the folder cannot be written.
        StateUnusableError: When what this host remembers cannot be.
        ClaimUnusableError: When the folder cannot be held.
        StoreUnreachableError: When nobody can say what is published.
    """
    while True:
        started_at = clock.now()
        folder = folder_of(started_at).absolute()
        header = _new_header(settings, folder, started_at)
        if is_published(folder.name):
            if named:
                raise FolderTakenError(f"{folder}: a rollout of this name is published already")
            clock.sleep(0.1)
            continue
        journal = Journal(header.environment)
        try:
            with whole_or_none(folder):
                evidence = Evidence.create(folder, header, settings.redactor)
                evidence.write_text(layout.ENV_SEQUENCE, env_sequence_text(header))
                with lock_folder(folder, {}):  # a folder that cannot be held is none to work in
                    journal.opened(folder, started_at)
        except FileExistsError:
            if named:
                raise FolderTakenError(_taken(folder)) from None
            clock.sleep(0.1)
        else:
            return evidence


def _taken(folder: Path) -> str:
    if folder.is_symlink() and not folder.exists():
        return f"{folder} is a link to {folder.readlink()}, which does not exist"
    return f"{folder} is not an empty folder; each rollout has a folder of its own"


def _new_header(settings: Settings, folder: Path, started_at: datetime) -> Header:
    checkout = checkout_now(settings.plan, folder)
    return Header(
        **settings.plan.model_dump(),
        started_at=rfc3339(started_at),
        commit=checkout.commit,
        dirty=checkout.dirty,
        url_digests=settings.endpoints.digests(),
        folder=str(folder),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("canary-pipeline", "dagster"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # the core runs without Dagster
            continue
    return found


def join(
    evidence: Evidence,
    run_id: str,
    launched_by: str,
    clock: Clock,
    runnable: Collection[str] | None = None,
) -> Attempt:
    """Work on a rollout with this run; the first step that asks opens the attempt.

    A gate that passed is not run again, except when another gate blocked the rollout: then all
    that this run can run are, since what is being judged has changed. At another commit than
    before, or once the decision was withdrawn, nothing of earlier attempts counts: a gate that
    this run cannot run blocks then. From here on `SUMMARY.md` cannot say `allow` for what earlier
    attempts saw.

    Args:
        evidence: The rollout's folder.
        run_id: This run.
        launched_by: Who or what started it.
        clock: Time.
        runnable: The gates that this run can run; None for all.
    """

    def add(header: Header) -> Header:
        if run_id in header.run_ids:
            return header
        evidence.tidy()
        if not evidence.exists(layout.ENV_SEQUENCE):  # killed while it was opened
            evidence.write_text(layout.ENV_SEQUENCE, env_sequence_text(header))
        attempt = next_attempt(evidence, run_id, launched_by, clock, runnable)
        attempts, now = (*header.attempts, attempt), rfc3339(clock.now())
        joined = header.model_copy(
            update={"attempts": attempts, "decided_at": now, "withdrawn": None}
        )
        if evidence.exists(layout.SUMMARY) or evidence.exists(layout.DECISION):
            write_decision(evidence, replace(evidence.verified_record(), header=joined))
        return joined

    header = evidence.update_header(add)
    return next(attempt for attempt in header.attempts if attempt.run_id == run_id)


def must_run(header: Header, gate: Gate, attempt: int) -> bool:
    """Whether an attempt runs this gate."""
    return any(
        item.attempt == attempt and gate.name in item.gates_to_run for item in header.attempts
    )


MENDABLE = (
    "repo_root", "gate_timeout_seconds", "rollback_command", "on_block", "verify_timeout_seconds",
    "stop_grace_seconds",
)  # fmt: skip
"""What a person may give anew when a rollout goes on, or is rolled back."""


def recorded_plan(header: Header, settings: Settings, *, applies: bool = True) -> Plan:
    """The plan of a rollout that was opened before: what it recorded then holds until its end.

    Only what is never written down (URLs with their secrets, the token) comes from the settings
    at hand, and must still mean the same staging; and what a person gives there to mend it.

    Args:
        header: What was recorded.
        settings: The settings at hand.
        applies: Whether cohorts may be made live: then by the same command as before.

    Raises:
        RolloutMismatchError: When they mean another staging.
    """
    plan = settings.plan
    if header.environment != plan.environment:
        message = f"this is a rollout of {header.environment}, not of {plan.environment}"
        raise RolloutMismatchError(message)
    if plan.missing_for_probe != header.missing_for_probe:
        then, now = _probing(header.missing_for_probe), _probing(plan.missing_for_probe)
        message = f"this rollout {then}, but with the current settings it {now}"
        raise RolloutMismatchError(message)
    for name in URLS:
        then_url, now_url = getattr(header, name), getattr(plan, name)
        if now_url != then_url:
            message = f"{name} was {then_url} when this rollout started, and now is {now_url}"
            raise RolloutMismatchError(message)
    for name in settings.endpoints.another_than(header.url_digests):
        message = f"{name} is another than when this rollout started, in its user info or query"
        raise RolloutMismatchError(message)
    given = settings.sources
    if applies and "apply_command" in given and not header.skip_gates:
        _require_same_apply_command(header, plan)
    # A variable may be a service's own; it mends only where a rollback must work.
    mending = given if header.changes_staging else by_flag(given)
    mended = {name: getattr(plan, name) for name in MENDABLE if name in mending}
    return header.plan.model_copy(update=mended)


def _require_same_apply_command(header: Header, plan: Plan) -> None:
    if plan.apply_command != header.apply_command:
        message = (
            f"the apply command was {header.apply_command!r} when this rollout started, and now "
            f"is {plan.apply_command!r}"
        )
        raise RolloutMismatchError(message)


def _probing(missing: tuple[str, ...]) -> str:
    return f"skips its probes ({', '.join(missing)} missing)" if missing else "probes live"
