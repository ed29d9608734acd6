"""A gate: a command in the checkout that must exit with 0, and the row that says whether it did."""

from canary_pipeline.model.plan import Gate, Plan
from canary_pipeline.model.rows import ALL_GATES, SKIPPED_BY_FLAG, GateRow, InFlight
from canary_pipeline.outside.clock import rfc3339
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.logged_command import run_logged


def run_gate(gate: Gate, plan: Plan, around: Surroundings) -> GateRow:
    """Run one gate to its end and add its row; never raises for a gate that fails."""
    clock, evidence = around.clock, around.evidence
    step = f"gate {gate.name}"
    started_at, started = clock.now(), clock.monotonic()
    evidence.set_in_flight(
        InFlight(
            step=step,
            phase="running",
            started_at=rfc3339(started_at),
            attempt=around.attempt,
            run_id=around.run_id,
        )
    )
    around.say(f"{step}: {gate.command}")
    ending = run_logged(gate.command, gate.log_file, plan, around, gate=gate.name)
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
        log_file=gate.log_file,
        log_sha256=evidence.sha256(gate.log_file),
        attempt=around.attempt,
        run_id=around.run_id,
    )
    evidence.add_gate_row(row)
    evidence.clear_in_flight(step)
    why = f" ({row.detail})" if row.detail else ""
    around.say(f"{step}: {row.status} in {row.duration_seconds:.1f} s{why}; {gate.log_file}")
    return row


def record_skipped_gates(around: Surroundings) -> None:
    """Add the one row that says that no gate ran, unless it is there."""
    if around.evidence.record().gates_were_skipped:
        return
    now = rfc3339(around.clock.now())
    around.evidence.add_gate_row(
        GateRow(
            gate=ALL_GATES,
            status="skipped",
            reason=SKIPPED_BY_FLAG,
            started_at=now,
            finished_at=now,
            attempt=around.attempt,
            run_id=around.run_id,
        )
    )
    around.say("gates: skipped (--skip-gates); the decision will be block")
