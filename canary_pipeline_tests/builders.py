"""Records as tests need them: of an allowed rollout, unless a test says otherwise."""

from collections.abc import Sequence
from typing import Any

from canary_pipeline.model.environment import Environment
from canary_pipeline.model.plan import Gate, Plan
from canary_pipeline.model.record import Attempt, Header
from canary_pipeline.model.rows import CohortRow, GateRow, LiveRouting, RollbackRow, Status
from canary_pipeline.store.folder import Evidence

ENVIRONMENT = Environment(
    name="staging",
    title="Staging Spacetime Canary Rollout Summary",
    gates=(Gate("one", "true"), Gate("two", "true")),
    default_cohorts=(5, 100),
    default_soak_seconds=900,
)


def header(**changes: Any) -> Header:
    """The header of a rollout of `ENVIRONMENT` that probes and that nobody has worked on."""
    values = {
        "environment": "staging", "title": ENVIRONMENT.title, "cohorts": (5, 100),
        "soak_seconds": 900, "skip_gates": False, "gates": ENVIRONMENT.gates,
        "missing_for_probe": (), "control_base_url": "http://127.0.0.1:9",
        "runtime_metrics_url": None, "control_status_url": None, "gate_timeout_seconds": 30,
        "http_timeout_seconds": 2, "repo_root": "/", "commit": None, "dirty": None,
        "versions": {}, "started_at": "2026-02-25T08:00:00.000Z", "folder": "/rollout",
    }  # fmt: skip
    return Header.model_validate({**values, **changes})


def attempt(number: int = 1, outcome: str | None = "finished", **more: Any) -> Attempt:
    """An attempt that ran no gate."""
    values = {
        "attempt": number, "run_id": f"run-{number}", "launched_by": "a test", "started_at": "s",
        "gates_to_run": (), "outcome": outcome, "detail": "somehow",
    }  # fmt: skip
    return Attempt.model_validate({**values, **more})


def gate(name: str, status: Status = "passed", *, of: int = 1, **more: Any) -> GateRow:
    """How a gate ended in an attempt."""
    return GateRow(gate=name, status=status, attempt=of, run_id=f"run-{of}", **more)


def cohort(percent: int, status: Status = "passed", *, of: int = 1, **more: Any) -> CohortRow:
    """How a cohort ended in an attempt; one that passed has soaked."""
    soaked = {"soak_seconds": 900.0, "soaked_seconds": 900.0} if status == "passed" else {}
    values = {"cohort_percent": percent, "attempt": of, "run_id": f"run-{of}", **soaked, **more}
    return CohortRow(status=status, **values)


def seen(percent: int) -> LiveRouting:
    """What is live at a percent."""
    return LiveRouting(
        user_percent=percent, autopilot_percent=percent, shadow_enabled=True,
        shadow_sample_rate=1.0, seen_at="s",
    )  # fmt: skip


def rolled_back(
    status: Status = "passed", reason: str | None = None, *, of: int = 1
) -> RollbackRow:
    """How a rollback ended in an attempt."""
    reason = reason or (None if status == "passed" else "rollback_failed")
    return RollbackRow(
        status=status, reason=reason, cause="c", command="x", wanted=seen(0), started_at="s",
        finished_at="s", attempt=of, run_id=f"run-{of}",
    )  # fmt: skip


def passed(plan: Plan, *, of: int = 1, **more: Any) -> Sequence[GateRow | CohortRow]:
    """Every gate and cohort of a plan, passed; `more` is said of the cohorts."""
    return (
        *(gate(each.name, of=of) for each in plan.gates),
        *(cohort(percent, of=of, **more) for percent in plan.cohorts),
    )


def add(evidence: Evidence, *rows: GateRow | CohortRow | RollbackRow) -> None:
    """Add rows to a folder."""
    for row in rows:
        evidence.add(row)
