"""The life of a rollout: opened once, worked on by one attempt after another, always concluded."""

import platform
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from pathlib import Path

from canary_pipeline.model.decision import Decision, Reason, decide, gate_is_clear
from canary_pipeline.model.env_sequence import env_sequence_text
from canary_pipeline.model.plan import Changes, Gate, Plan, shown_url
from canary_pipeline.model.rows import Attempt, AttemptOutcome, Header, PlannedGate
from canary_pipeline.outside.clock import Clock, rfc3339
from canary_pipeline.outside.git import checkout_state
from canary_pipeline.store.folder import (
    ENV_SEQUENCE,
    HEADER,
    SUMMARY,
    TIMELINE,
    Evidence,
    Record,
)

OUTPUT_ROOT = Path("output/canary/spacetime")

FOLDER_VARIABLE = "CANARY_PIPELINE_ROLLOUT"
"""Set by `canary-rollout` for the run that it executes: the folder it opened or goes on with."""


class RolloutMismatchError(Exception):
    """A rollout cannot go on with the settings at hand; the message says which differ."""


class FolderTakenError(Exception):
    """The folder asked for already holds something."""


def open_rollout(plan: Plan, output_dir: Path | None, clock: Clock) -> Evidence:
    """Make the folder of a new rollout and write what it is going to be.

    Args:
        plan: What the rollout does.
        output_dir: Its folder; by default one named for the moment, below `OUTPUT_ROOT`.
        clock: Names the folder. Two rollouts of one second get two seconds.

    Raises:
        FolderTakenError: When `output_dir` is not empty.
        OSError: When the folder cannot be written.
    """
    while True:
        started_at = clock.now()
        folder = output_dir or default_folder(plan, started_at)
        try:
            evidence = Evidence.create(folder.absolute(), new_header(plan, started_at))
        except FileExistsError:
            if output_dir is not None:
                message = f"{folder} is not an empty folder; each rollout has a folder of its own"
                raise FolderTakenError(message) from None
            clock.sleep(0.1)
        else:
            evidence.write_text(ENV_SEQUENCE, env_sequence_text(plan.cohorts, plan.soak_seconds))
            return evidence


def default_folder(plan: Plan, started_at: datetime) -> Path:
    """Where a rollout that starts now keeps its evidence, unless told otherwise."""
    return OUTPUT_ROOT / f"{plan.environment.name}-{started_at:%Y%m%dT%H%M%SZ}"


def new_header(plan: Plan, started_at: datetime) -> Header:
    """What `rollout.json` says of a rollout that nobody has worked on yet."""
    checkout = checkout_state(plan.repo_root)
    urls, changes = plan.endpoints, plan.changes
    return Header(
        environment=plan.environment.name,
        title=plan.environment.title,
        started_at=rfc3339(started_at),
        cohorts=list(plan.cohorts),
        soak_seconds=plan.soak_seconds,
        skip_gates=plan.skip_gates,
        gates=[PlannedGate(name=gate.name, command=gate.command) for gate in plan.gates],
        missing_for_probe=list(plan.missing_for_probe),
        control_base_url=_shown(urls.control_base_url),
        runtime_metrics_url=_shown(urls.runtime_metrics_url),
        control_status_url=_shown(urls.control_status_url),
        gate_timeout_seconds=plan.gate_timeout_seconds,
        http_timeout_seconds=plan.http_timeout_seconds,
        repo_root=str(plan.repo_root),
        apply_command=changes.apply_command if changes else None,
        rollback_command=changes.rollback_command if changes else None,
        on_block=changes.on_block if changes else None,
        verify_timeout_seconds=changes.verify_timeout_seconds if changes else None,
        commit=checkout.commit,
        dirty=checkout.dirty,
        versions={
            "canary-pipeline": metadata.version("canary-pipeline"),
            "dagster": metadata.version("dagster"),
            "python": platform.python_version(),
        },
    )


def _shown(url: str | None) -> str | None:
    return None if url is None else shown_url(url)


def settled_plan(plan: Plan, header: Header) -> Plan:
    """The plan of a rollout that was opened before: what it recorded then holds until its end.

    Only what is never written down (URLs with their secrets, the token) comes from the settings
    at hand, and must still mean the same staging.

    Raises:
        RolloutMismatchError: When it does not.
    """
    if header.environment != plan.environment.name:
        message = f"this is a rollout of {header.environment}, not of {plan.environment.name}"
        raise RolloutMismatchError(message)
    if list(plan.missing_for_probe) != header.missing_for_probe:
        then, now = _probing(header.missing_for_probe), _probing(plan.missing_for_probe)
        message = f"this rollout {then}, and the settings at hand mean that it {now}"
        raise RolloutMismatchError(message)
    for name in ("control_base_url", "runtime_metrics_url", "control_status_url"):
        now_url, then_url = _shown(getattr(plan.endpoints, name)), getattr(header, name)
        if now_url != then_url:
            message = f"{name} was {then_url} when this rollout started, and now is {now_url}"
            raise RolloutMismatchError(message)
    applies = plan.changes.apply_command if plan.changes else None
    if applies != header.apply_command:
        message = (
            f"the apply command was {header.apply_command!r} when this rollout started, and now "
            f"is {applies!r}"
        )
        raise RolloutMismatchError(message)
    return replace(
        plan,
        changes=_recorded_changes(plan.changes, header),
        cohorts=tuple(header.cohorts),
        soak_seconds=header.soak_seconds,
        skip_gates=header.skip_gates,
        repo_root=Path(header.repo_root),
        gate_timeout_seconds=header.gate_timeout_seconds,
        http_timeout_seconds=header.http_timeout_seconds,
    )


def _recorded_changes(changes: Changes | None, header: Header) -> Changes | None:
    if changes is None:
        return None
    return Changes(
        changes.apply_command,
        header.rollback_command or changes.rollback_command,
        "hold" if header.on_block == "hold" else "rollback",
        header.verify_timeout_seconds or changes.verify_timeout_seconds,
    )


def _probing(missing: list[str] | tuple[str, ...]) -> str:
    return f"skips its probes ({', '.join(missing)} missing)" if missing else "probes live"


def join(evidence: Evidence, run_id: str, launched_by: str, clock: Clock) -> Attempt:
    """Work on a rollout with this run; the first step that asks opens the attempt.

    A gate that passed is not run again, except when another gate blocked the rollout: then all
    of them are, since what is being judged has changed. From here on `SUMMARY.md` cannot say
    `allow` for what an earlier attempt saw.
    """

    def add(header: Header) -> Header:
        if run_id in header.run_ids:
            return header
        evidence.tidy()
        attempt = Attempt(
            attempt=len(header.attempts) + 1,
            run_id=run_id,
            launched_by=launched_by,
            started_at=rfc3339(clock.now()),
            gates_to_run=_gates_to_run(evidence.record()),
        )
        if evidence.exists(SUMMARY):
            message = f"attempt {attempt.attempt} is under way"
            _write_summary(evidence, clock, Reason(message, HEADER))
        return header.model_copy(update={"attempts": [*header.attempts, attempt]})

    header = evidence.update_header(add)
    return next(attempt for attempt in header.attempts if attempt.run_id == run_id)


def _gates_to_run(record: Record) -> list[str]:
    if record.header.skip_gates:
        return []
    names = [gate.name for gate in record.header.gates]
    last_rows = [record.last_gate_row(name) for name in names]
    if any(row is not None and row.status != "passed" for row in last_rows):
        return names
    return [name for name in names if not gate_is_clear(record, name)]


def must_run(attempt: Attempt, gate: Gate) -> bool:
    """Whether this attempt runs this gate."""
    return gate.name in attempt.gates_to_run


def end(
    evidence: Evidence, run_id: str, outcome: AttemptOutcome, detail: str | None, clock: Clock
) -> Decision:
    """Record how an attempt ended, and write the decision that follows.

    Args:
        evidence: The rollout's folder.
        run_id: The run whose attempt ended.
        outcome: `finished` when its summary step was reached.
        detail: What ended it otherwise, free of secrets.
        clock: Time.
    """

    def close(header: Header) -> Header:
        ended = {"ended_at": rfc3339(clock.now()), "outcome": outcome, "detail": detail}
        attempts = [
            attempt.model_copy(update=ended) if attempt.run_id == run_id else attempt
            for attempt in header.attempts
        ]
        return header.model_copy(
            update={"attempts": attempts, "sealed": evidence.seal(header.sealed)}
        )

    evidence.update_header(close)
    return _write_summary(evidence, clock)


def abandon(evidence: Evidence, why: str, clock: Clock) -> None:
    """Write the decision of a rollout whose command ends without its run having seen to it.

    Args:
        evidence: The rollout's folder.
        why: What ended it, free of secrets.
        clock: Time.
    """
    last = evidence.header().attempts[-1:]
    if not last:
        _write_summary(evidence, clock, Reason(why, HEADER))
    elif last[0].outcome is None:
        end(evidence, last[0].run_id, "aborted", why, clock)


def _write_summary(evidence: Evidence, clock: Clock, *more: Reason) -> Decision:
    from canary_pipeline.reports.summary import summary_text  # noqa: PLC0415 - imports pandas

    record = evidence.verified_record()
    decision = decide(record)
    decision = Decision((*more, *decision.reasons))
    evidence.write_text(SUMMARY, summary_text(record, decision, evidence.folder, clock.now()))
    return decision


def draw_timeline(evidence: Evidence, clock: Clock) -> bytes:
    """Draw the rollout so far as a PNG, keep it beside the summary, and return it."""
    from canary_pipeline.reports.pictures.timeline import timeline  # noqa: PLC0415 - imports matplotlib

    picture = timeline(evidence.verified_record(), clock.now())
    evidence.write_bytes(TIMELINE, picture)
    return picture


def duration_seconds(header: Header) -> float:
    """Seconds from a rollout's start to the end of its last attempt; 0.0 before that."""
    ended_at = header.attempts[-1].ended_at if header.attempts else None
    if ended_at is None:
        return 0.0
    started = datetime.fromisoformat(header.started_at)
    return (datetime.fromisoformat(ended_at) - started).total_seconds()


def rewrite_summary(evidence: Evidence, clock: Clock) -> Decision:
    """Write the decision anew, after rows were added to a rollout whose attempt had ended."""
    evidence.update_header(
        lambda header: header.model_copy(update={"sealed": evidence.seal(header.sealed)})
    )
    return _write_summary(evidence, clock)


def written_decision(evidence: Evidence) -> str | None:
    """`allow` or `block` as the last line of `SUMMARY.md` says, or None where nothing is said."""
    lines = (evidence.read_text(SUMMARY) or "").splitlines()
    last = lines[-1] if lines else ""
    return (
        last.removeprefix("Decision: ") if last in ("Decision: allow", "Decision: block") else None
    )
