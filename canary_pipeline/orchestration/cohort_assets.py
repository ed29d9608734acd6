"""The cohorts: an op each, one after another, then `cohort_results` and the snapshots."""

from collections.abc import Iterator

import dagster as dg
from dagster import Nothing

from canary_pipeline.model.decision import cohort_detail, cohort_is_clear
from canary_pipeline.model.plan import SNAPSHOT_KINDS, SnapshotKind
from canary_pipeline.model.rows import LiveRouting
from canary_pipeline.orchestration.evidence_metadata import (
    check_metadata,
    file_metadata,
    files_metadata,
    table,
)
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.step import Step, enter
from canary_pipeline.rollout.checks.snapshot import take_snapshots
from canary_pipeline.rollout.cohort import Cohort
from canary_pipeline.rollout.cohorts import run_cohort
from canary_pipeline.rollout.live.rollback import settle
from canary_pipeline.store.folder import COHORT_RESULTS, Record, snapshot_name

_SNAPSHOT_DESCRIPTIONS: dict[SnapshotKind, str] = {
    "runtime_metrics": "`runtime_metrics_*.json`: the runtime's sync metrics before and after.",
    "control_status": "`control_status_*.json`: the control service's status before and after.",
}


def cohort_assets(rollout: Rollout) -> dg.AssetsDefinition:
    """The assets `cohort_results`, `runtime_metrics` and `control_status`, with their check."""
    key = rollout.asset_key("cohort_results")
    check = dg.AssetCheckSpec(
        "all_cohorts_passed",
        asset=key,
        description="Every cohort's last row is `passed`, or skipped for missing probe config.",
    )
    cohorts = [_cohort_op(rollout, percent) for percent in rollout.cohorts]
    rollback = _rollback_op(rollout)
    close = _close_op(rollout, check)
    outs = {
        "cohort_results": dg.AssetOut(
            key=key,
            dagster_type=Nothing,
            description=f"`{COHORT_RESULTS}`: a row as each cohort ends.",
            kinds={"json"},
            owners=rollout.owners,
        )
    }
    for kind in SNAPSHOT_KINDS:
        outs[kind] = dg.AssetOut(
            key=rollout.asset_key(kind),
            dagster_type=Nothing,
            description=_SNAPSHOT_DESCRIPTIONS[kind],
            kinds={"json"},
            owners=rollout.owners,
        )

    @dg.graph_multi_asset(
        name=f"{rollout.environment.name}_cohorts",
        group_name=rollout.environment.asset_group,
        ins={"gate_results": dg.AssetIn(rollout.asset_key("gate_results"), dagster_type=Nothing)},
        outs=outs,
        check_specs=[check],
    )
    def cohorts_graph(gate_results):  # type: ignore[no-untyped-def] # called with graph handles
        previous = gate_results
        for percent, cohort in zip(rollout.cohorts, cohorts, strict=True):
            previous = cohort.alias(f"cohort_{percent}")(previous)
        if rollout.changes_staging:
            previous = rollback.alias("rollback")(previous)
        outputs = close(previous)
        names = (*outs, check.get_python_identifier())
        return {name: getattr(outputs, name) for name in names}

    return cohorts_graph


def _cohort_op(rollout: Rollout, percent: int) -> dg.OpDefinition:
    @dg.op(
        name=f"{rollout.environment.name}_cohort_{percent}",
        description=f"Probes the control service for {percent} % of users, then soaks.",
        ins={"previous": dg.In(Nothing)},
        out=dg.Out(Nothing),
        required_resource_keys={"rollout"},
        tags={"canary/cohort": str(percent), "kind": "http"},
    )
    def cohort(context: dg.OpExecutionContext) -> None:
        step = enter(context, rollout)
        if percent not in step.plan.cohorts:
            context.log.info("cohort %s: not part of this rollout", percent)
            return
        row = run_cohort(Cohort(percent, step.plan, step.control_plane, step.around))
        if row.live is not None and row.run_id == context.run_id:
            _observe(context, rollout, row.live_after_soak or row.live)

    return cohort


def _observe(context: dg.OpExecutionContext, rollout: Rollout, live: LiveRouting) -> None:
    """Note which percents are live, as numbers that Dagster plots over time."""
    metadata: dict[str, int] = {
        "live_user_percent": live.user_percent,
        "live_autopilot_percent": live.autopilot_percent,
    }
    context.log_event(
        dg.AssetObservation(rollout.asset_key("control_status"), str(live), metadata=metadata)
    )


def _rollback_op(rollout: Rollout) -> dg.OpDefinition:
    @dg.op(
        name=f"{rollout.environment.name}_rollback",
        description="Restores what was live before the first cohort, if the rollout blocks.",
        ins={"last_cohort": dg.In(Nothing)},
        out=dg.Out(Nothing),
        required_resource_keys={"rollout"},
        tags={"kind": "shell"},
    )
    def rollback(context: dg.OpExecutionContext) -> None:
        step = enter(context, rollout)
        row = settle(step.plan, step.control_plane, step.around, "the rollout blocks")
        if row is None:
            context.log.info("rollback: nothing to roll back")
        elif row.live is not None:
            _observe(context, rollout, row.live)

    return rollback


def _close_op(rollout: Rollout, check: dg.AssetCheckSpec) -> dg.OpDefinition:
    outs = {name: dg.Out(Nothing) for name in ("cohort_results", *SNAPSHOT_KINDS)}

    @dg.op(
        name=f"{rollout.environment.name}_cohort_results",
        description="Takes the last snapshots and says whether every cohort passed.",
        ins={"last_cohort": dg.In(Nothing)},
        out={**outs, check.get_python_identifier(): dg.Out(Nothing)},
        required_resource_keys={"rollout"},
    )
    def cohort_results(
        context: dg.OpExecutionContext,
    ) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
        step = enter(context, rollout)
        take_snapshots(step.control_plane, step.around, "after")
        record = step.evidence.record()
        yield dg.Output(None, "cohort_results", metadata=_results_metadata(step, record))
        for kind in SNAPSHOT_KINDS:
            yield dg.Output(None, kind, metadata=_snapshot_metadata(step, kind))
        yield dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=all(cohort_is_clear(record, percent) for percent in record.header.cohorts),
            description=_verdict(record),
            metadata=check_metadata(step.evidence, COHORT_RESULTS),
        )

    return cohort_results


def _results_metadata(step: Step, record: Record) -> dict[str, dg.MetadataValue]:
    from canary_pipeline.reports.tables import cohort_table  # noqa: PLC0415 - imports pandas

    rows = [record.last_cohort_row(percent) for percent in record.header.cohorts]
    failures = sum(row is not None and row.status == "failed" for row in rows)
    latencies = {
        f"probe_seconds/{row.cohort_percent}": dg.MetadataValue.float(row.probe_seconds)
        for row in rows
        if row is not None and row.probe_seconds is not None
    }
    return {
        "cohorts": table(cohort_table(record)),
        "failures": dg.MetadataValue.int(failures),
        **latencies,
        **file_metadata(step.evidence, COHORT_RESULTS),
    }


def _snapshot_metadata(step: Step, kind: SnapshotKind) -> dict[str, dg.MetadataValue]:
    from canary_pipeline.reports.tables import snapshot_deltas  # noqa: PLC0415 - imports pandas

    if step.plan.endpoints.snapshot_url(kind) is None:
        return {"snapshots": dg.MetadataValue.text("none: its URL is not configured")}
    spans = [f"{side}_{percent}" for percent in step.plan.cohorts for side in ("before", "after")]
    names = [snapshot_name(kind, moment) for moment in ("before", *spans, "after")]
    kept = [name for name in names if step.evidence.exists(name)]
    deltas = snapshot_deltas(step.evidence, kind, step.plan.cohorts)
    return {
        "changes": table(deltas),
        "snapshots": dg.MetadataValue.int(len(kept)),
        **files_metadata(step.evidence, kept),
    }


def _verdict(record: Record) -> str:
    said = []
    for percent in record.header.cohorts:
        row = record.last_cohort_row(percent)
        words = "has no result" if row is None else f"{row.status} ({cohort_detail(row)})"
        said.append(f"{percent} % {words}")
    return ", ".join(said) + "."
