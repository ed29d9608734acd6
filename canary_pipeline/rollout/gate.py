"""A gate: a command in the checkout that must exit with 0, and the row that says whether it did."""

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.plan import Gate
from canary_pipeline.model.rows import ALL_GATES, SKIPPED_BY_FLAG, GateRow
from canary_pipeline.rollout.after import judge_newest
from canary_pipeline.rollout.checkout import checkout_now
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.logged_command import run_logged
from canary_pipeline.store import layout


def run_gate(gate: Gate, context: Context) -> GateRow:
    """Run one gate to its end and add its row; never raises for a gate that fails."""
    clock, evidence = context.clock, context.evidence
    step, log_file = f"gate {gate.name}", layout.gate_log(gate.name, context.attempt)
    started_at, started = clock.now(), clock.monotonic()
    before = checkout_now(context.plan, evidence.folder)
    context.note(step, "running")
    context.tell(f"{step}: {gate.command}")
    if gate.after:
        ending = judge_newest(gate.after, log_file, context)
    else:
        ending = run_logged(gate.command, log_file, context, gate=gate.name)
    after = checkout_now(context.plan, evidence.folder)
    row = GateRow(
        gate=gate.name,
        status="passed" if ending.reason is None else "failed",
        reason=ending.reason,
        detail=ending.detail,
        exit_code=ending.exit_code,
        command=gate.command,
        started_at=rfc3339(started_at),
        finished_at=rfc3339(clock.now()),
        duration_seconds=round(clock.monotonic() - started, 3),
        log_file=log_file,
        log_sha256=evidence.sha256(log_file),
        commit=before.commit,
        commit_after=after.commit if after.commit != before.commit else None,
        dirty=before.dirty if after.dirty is None else before.dirty or after.dirty,
        attempt=context.attempt,
        run_id=context.run_id,
    )
    if after != before:
        context.warn(step, f"the checkout changed while it ran, from {before} to {after}")
    evidence.add(row)
    evidence.clear_in_flight(step)
    why = f" ({row.detail})" if row.detail else ""
    context.tell(f"{step}: {row.status} in {row.duration_seconds:.1f} s{why}; {log_file}")
    return row


def record_skipped_gates(context: Context) -> None:
    """Add the one row that says that no gate ran, unless it is there."""
    if context.evidence.record().gates_were_skipped:
        return
    now = rfc3339(context.clock.now())
    context.evidence.add(
        GateRow(
            gate=ALL_GATES,
            status="skipped",
            reason=SKIPPED_BY_FLAG,
            started_at=now,
            finished_at=now,
            attempt=context.attempt,
            run_id=context.run_id,
        )
    )
    context.tell("gates: skipped (--skip-gates); the decision will be block")
