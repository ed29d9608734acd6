"""The cohorts: an op each, one after another, then `cohort_results` and the snapshots."""

from collections.abc import Iterator

import dagster as dg
from dagster import Nothing

from canary_pipeline.model.decision import cohort_is_clear
from canary_pipeline.model.plan import SNAPSHOT_KINDS, SnapshotKind
from canary_pipeline.model.record import Record
from canary_pipeline.model.wording import cohort_detail
from canary_pipeline.orchestration.pages import (
    check_metadata,
    file_metadata,
    files_metadata,
    image,
    table,
)
from canary_pipeline.orchestration.rollout import Rollout, op_name
from canary_pipeline.orchestration.step_op import step_op
from canary_pipeline.orchestration.work import enter
from canary_pipeline.reports.health import limited_numbers, watched_soaks
from canary_pipeline.reports.tables import cohort_table, snapshot_deltas
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.layout import COHORT_RESULTS, snapshot

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
    steps = [*_cohort_ops(rollout), *_rollback_ops(rollout)]
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
        name=f"{op_name(rollout.environment.name)}_cohorts",
        group_name=rollout.environment.asset_group,
        ins={"gate_results": dg.AssetIn(rollout.asset_key("gate_results"), dagster_type=Nothing)},
        outs=outs,
        check_specs=[check],
        partitions_def=rollout.partitions,
    )
    def cohorts_graph(gate_results):  # type: ignore[no-untyped-def] # called with graph handles
        previous = gate_results
        for name, op in steps:
            previous = op.alias(name)(previous)
        outputs = close(previous)
        names = (*outs, check.get_python_identifier())
        return {name: getattr(outputs, name) for name in names}

    return cohorts_graph


def _cohort_ops(rollout: Rollout) -> Iterator[tuple[str, dg.OpDefinition]]:
    """An op a cohort, by its name in the graph."""
    for percent, step in zip(rollout.cohorts, rollout.steps.cohorts, strict=True):
        name = f"{op_name(rollout.environment.name)}_cohort_{percent}"
        description = f"Probes the control service for {percent} % of users, then soaks."
        tags = {"canary/cohort": str(percent), "kind": "http"}
        yield op_name(step.name), step_op(rollout, step, name, description, **tags)


def _rollback_ops(rollout: Rollout) -> Iterator[tuple[str, dg.OpDefinition]]:
    for step in rollout.steps.restoring:
        name = f"{op_name(rollout.environment.name)}_rollback"
        description = "Restores what was live before the first cohort, if the rollout blocks."
        yield op_name(step.name), step_op(rollout, step, name, description, kind="shell")


def _close_op(rollout: Rollout, check: dg.AssetCheckSpec) -> dg.OpDefinition:
    outs = {name: dg.Out(Nothing) for name in ("cohort_results", *SNAPSHOT_KINDS)}

    @dg.op(
        name=f"{op_name(rollout.environment.name)}_cohort_results",
        description="Takes the last snapshots and says whether every cohort passed.",
        ins={"last_cohort": dg.In(Nothing)},
        out={**outs, check.get_python_identifier(): dg.Out(Nothing)},
        required_resource_keys={"rollout"},
    )
    def cohort_results(
        context: dg.OpExecutionContext,
    ) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
        entered = enter(context, rollout)
        rollout.steps.closing.run(entered)
        record = entered.evidence.record()
        yield dg.Output(None, "cohort_results", metadata=_results_metadata(entered, record))
        for kind in SNAPSHOT_KINDS:
            yield dg.Output(None, kind, metadata=_snapshot_metadata(entered, kind))
        yield dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=all(cohort_is_clear(record, percent) for percent in record.header.cohorts),
            description=_verdict(record),
            metadata=check_metadata(entered.evidence, COHORT_RESULTS),
        )

    return cohort_results


def _results_metadata(entered: Context, record: Record) -> dict[str, dg.MetadataValue]:

    rows = [row for _, row in record.cohorts if row is not None]
    latencies = {
        f"probe_seconds/{row.cohort_percent}": dg.MetadataValue.float(row.probe_seconds)
        for row in rows
        if row.probe_seconds is not None
    }
    return {
        "cohorts": table(cohort_table(record)),
        "failures": dg.MetadataValue.int(sum(row.status == "failed" for row in rows)),
        **latencies,
        **file_metadata(entered.evidence, COHORT_RESULTS),
    }


def _snapshot_metadata(entered: Context, kind: SnapshotKind) -> dict[str, dg.MetadataValue]:

    plan, evidence = entered.plan, entered.evidence
    if not plan.shows(kind):
        return {"snapshots": dg.MetadataValue.text("none: its URL is not configured")}
    spans = [f"{side}_{percent}" for percent in plan.cohorts for side in ("before", "after")]
    names = [snapshot(kind, moment) for moment in ("before", *spans, "after")]
    watched = _soaks_metadata(entered) if kind == "runtime_metrics" else {}
    kept = [name for name in names if evidence.exists(name)]
    return {
        **watched,  # before the table, which is long
        "snapshots": dg.MetadataValue.int(len(kept)),
        "changes": table(snapshot_deltas(evidence, kind, plan.cohorts)),
        **files_metadata(evidence, kept),
    }


def _soaks_metadata(entered: Context) -> dict[str, dg.MetadataValue]:
    """Each limited number of each soak, to follow from rollout to rollout, and a picture."""
    evidence = entered.evidence
    soaks = list(watched_soaks(evidence.record(), evidence))
    found = limited_numbers(soaks)
    shown: dict[str, dg.MetadataValue] = {}
    shown |= {name: dg.MetadataValue.float(number) for name, number in found.items()}
    if not shown:
        return {}
    try:
        from canary_pipeline.reports.soak_picture import soak_picture  # noqa: PLC0415 - matplotlib

        picture = soak_picture(soaks)
    except Exception as error:  # noqa: BLE001 - a picture never stands in the way of a decision
        entered.tell(f"the soaks could not be drawn: {type(error).__name__}")
        return shown
    return {**shown, "soaks": image(picture)} if picture else shown


def _verdict(record: Record) -> str:
    said = [
        f"{percent} % {'has no result' if row is None else f'{row.status} ({cohort_detail(row)})'}"
        for percent, row in record.cohorts
    ]
    return ", ".join(said) + "."
