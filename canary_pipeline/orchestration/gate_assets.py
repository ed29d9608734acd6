"""The gates: an op each, in parallel, fanning in to `gate_results` and `logs`."""

from collections.abc import Iterator

import dagster as dg
from dagster import Nothing

from canary_pipeline.model.decision import gates_are_clear
from canary_pipeline.model.plan import Gate
from canary_pipeline.orchestration.evidence_metadata import (
    check_metadata,
    file_metadata,
    log_tails,
    table,
)
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.step import Step, enter
from canary_pipeline.rollout.attempts import must_run
from canary_pipeline.rollout.gate import record_skipped_gates, run_gate
from canary_pipeline.store.folder import GATE_RESULTS, LOGS, Record


def gate_assets(rollout: Rollout) -> dg.AssetsDefinition:
    """The assets `gate_results` and `logs`, with the check `all_gates_passed`."""
    group = rollout.environment.asset_group
    results_key, logs_key = rollout.asset_key("gate_results"), rollout.asset_key("logs")
    check = dg.AssetCheckSpec(
        "all_gates_passed", asset=results_key, description="Every gate's last row is `passed`."
    )
    gates = [_gate_op(rollout, gate) for gate in rollout.environment.gates]
    fan_in = _fan_in_op(rollout, check)

    @dg.graph_multi_asset(
        name=f"{rollout.environment.name}_gates",
        group_name=group,
        ins={"opened": dg.AssetIn(rollout.asset_key("canary_env_sequence"), dagster_type=Nothing)},
        outs={
            "gate_results": dg.AssetOut(
                key=results_key,
                dagster_type=Nothing,
                description=f"`{GATE_RESULTS}`: a row as each gate ends.",
                kinds={"json"},
                owners=rollout.owners,
            ),
            "logs": dg.AssetOut(
                key=logs_key,
                dagster_type=Nothing,
                description=f"`{LOGS}/`: what each gate printed.",
                kinds={"text"},
                owners=rollout.owners,
            ),
        },
        check_specs=[check],
    )
    def gates_graph(opened):  # type: ignore[no-untyped-def] # called with graph handles
        outputs = fan_in([gate(opened) for gate in gates])
        names = ("gate_results", "logs", check.get_python_identifier())
        return {name: getattr(outputs, name) for name in names}

    return gates_graph


def _gate_op(rollout: Rollout, gate: Gate) -> dg.OpDefinition:
    @dg.op(
        name=gate.name.replace("-", "_"),
        description=f"Runs `{gate.command}` in the checkout; exit code 0 passes.",
        ins={"opened": dg.In(Nothing)},
        out=dg.Out(Nothing),
        required_resource_keys={"rollout"},
        tags={"canary/gate": gate.name, "kind": "shell"},
    )
    def gate_op(context: dg.OpExecutionContext) -> None:
        step = enter(context, rollout)
        if must_run(step.attempt, gate):
            run_gate(gate, step.plan, step.around)
        elif step.plan.skip_gates:
            context.log.info("gate %s: skipped (--skip-gates)", gate.name)
        else:
            context.log.info("gate %s: passed in an earlier attempt, nothing to do", gate.name)

    return gate_op


def _fan_in_op(rollout: Rollout, check: dg.AssetCheckSpec) -> dg.OpDefinition:
    @dg.op(
        name=f"{rollout.environment.name}_gate_results",
        description="Waits for all gates and says whether they let the first cohort start.",
        ins={"gates": dg.In(Nothing)},
        out={
            "gate_results": dg.Out(Nothing),
            "logs": dg.Out(Nothing),
            check.get_python_identifier(): dg.Out(Nothing),
        },
        required_resource_keys={"rollout"},
    )
    def gate_results(
        context: dg.OpExecutionContext,
    ) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
        step = enter(context, rollout)
        if step.plan.skip_gates:
            record_skipped_gates(step.around)
        record = step.evidence.record()
        yield dg.Output(None, "gate_results", metadata=_results_metadata(step, record))
        yield dg.Output(None, "logs", metadata=log_tails(step.evidence, record))
        yield dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=gates_are_clear(record),
            description=_verdict(record),
            metadata=check_metadata(step.evidence, GATE_RESULTS),
        )

    return gate_results


def _results_metadata(step: Step, record: Record) -> dict[str, dg.MetadataValue]:
    from canary_pipeline.reports.tables import gate_table  # noqa: PLC0415 - imports pandas

    rows = [record.last_gate_row(gate.name) for gate in record.header.gates]
    durations = {
        f"duration_seconds/{row.gate}": dg.MetadataValue.float(row.duration_seconds)
        for row in rows
        if row is not None
    }
    failures = sum(row is not None and row.status == "failed" for row in rows)
    return {
        "gates": table(gate_table(record)),
        "failures": dg.MetadataValue.int(failures),
        **durations,
        **file_metadata(step.evidence, GATE_RESULTS),
    }


def _verdict(record: Record) -> str:
    if record.gates_were_skipped:
        return "No gate ran (--skip-gates)."
    rows = [(gate.name, record.last_gate_row(gate.name)) for gate in record.header.gates]
    said = [
        f"{name} {'has no result' if row is None else row.status}"
        f"{f' ({row.detail})' if row is not None and row.detail else ''}"
        for name, row in rows
    ]
    return ", ".join(said) + "."
