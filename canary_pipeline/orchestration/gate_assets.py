"""The gates: an op each, side by side, fanning in to `gate_results` and `logs`."""

from collections.abc import Iterator

import dagster as dg
from dagster import Nothing

from canary_pipeline.model.decision import gates_are_clear
from canary_pipeline.model.record import Record
from canary_pipeline.orchestration.pages import check_metadata, file_metadata, log_tails, table
from canary_pipeline.orchestration.rollout import Rollout, op_name
from canary_pipeline.orchestration.step_op import step_op
from canary_pipeline.orchestration.work import enter
from canary_pipeline.reports.tables import gate_table
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.steps import Step
from canary_pipeline.store.layout import GATE_RESULTS, LOGS


def gate_assets(rollout: Rollout) -> dg.AssetsDefinition:
    """The assets `gate_results` and `logs`, with the check `all_gates_passed`."""
    results_key, logs_key = rollout.asset_key("gate_results"), rollout.asset_key("logs")
    check = dg.AssetCheckSpec(
        "all_gates_passed", asset=results_key, description="Every gate's last row is `passed`."
    )
    lanes = [[_gate_op(rollout, step.name, step) for step in lane] for lane in rollout.steps.gates]
    fan_in = _fan_in_op(rollout, check)

    @dg.graph_multi_asset(
        name=f"{op_name(rollout.environment.name)}_gates",
        group_name=rollout.environment.asset_group,
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
        partitions_def=rollout.partitions,
    )
    def gates_graph(opened):  # type: ignore[no-untyped-def] # called with graph handles
        ends = []
        for lane in lanes:
            previous = opened
            for gate in lane:
                previous = gate(previous)
            ends.append(previous)
        outputs = fan_in(ends)
        names = ("gate_results", "logs", check.get_python_identifier())
        return {name: getattr(outputs, name) for name in names}

    return gates_graph


def _gate_op(rollout: Rollout, name: str, step: Step) -> dg.OpDefinition:
    gate = next(gate for gate in rollout.gates if name == f"gate {gate.name}")
    description = f"Runs `{gate.command}` in the checkout; exit code 0 passes."
    if gate.after:
        description = f"Judges {gate.command}: `allow`, at the same commit, passes."
    tags = {"canary/gate": gate.step, "kind": "shell"}
    return step_op(rollout, step, op_name(gate.step), description, **tags)


def _fan_in_op(rollout: Rollout, check: dg.AssetCheckSpec) -> dg.OpDefinition:
    @dg.op(
        name=f"{op_name(rollout.environment.name)}_gate_results",
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
        entered = enter(context, rollout)
        rollout.steps.gathering.run(entered)
        record = entered.evidence.record()
        yield dg.Output(None, "gate_results", metadata=_results_metadata(entered, record))
        yield dg.Output(None, "logs", metadata=log_tails(entered.evidence, record))
        yield dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=gates_are_clear(record),
            description=_verdict(record),
            metadata=check_metadata(entered.evidence, GATE_RESULTS),
        )

    return gate_results


def _results_metadata(entered: Context, record: Record) -> dict[str, dg.MetadataValue]:

    rows = [row for _, row in record.gates if row is not None]
    durations = {
        f"duration_seconds/{row.gate}": dg.MetadataValue.float(row.duration_seconds) for row in rows
    }
    return {
        "gates": table(gate_table(record)),
        "failures": dg.MetadataValue.int(sum(row.status == "failed" for row in rows)),
        **durations,
        **file_metadata(entered.evidence, GATE_RESULTS),
    }


def _verdict(record: Record) -> str:
    if record.gates_were_skipped:
        return "No gate ran (--skip-gates)."
    said = [
        f"{gate.name} {'has no result' if row is None else row.status}"
        f"{f' ({row.detail})' if row is not None and row.detail else ''}"
        for gate, row in record.gates
    ]
    return ", ".join(said) + "."
