"""The first asset and the last: the rollout's opening, and the summary that decides."""

import dagster as dg

from canary_pipeline.model.decision import decide_so_far
from canary_pipeline.orchestration.going_on import goes_on
from canary_pipeline.orchestration.pages import (
    GO_NO_GO,
    check_metadata,
    decision_metadata,
    file_metadata,
    promotion_key,
    timeline_metadata,
    verdict,
)
from canary_pipeline.orchestration.rollout import OPENING, Rollout
from canary_pipeline.orchestration.runs import decision_tags
from canary_pipeline.orchestration.work import enter
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.layout import ENV_SEQUENCE, SUMMARY


def opening_asset(rollout: Rollout) -> dg.AssetsDefinition:
    """The asset `canary_env_sequence`, whose step opens the rollout's folder."""

    @dg.asset(
        key=rollout.asset_key(OPENING),
        group_name=rollout.environment.asset_group,
        description=f"`{ENV_SEQUENCE}`: the variables that make each cohort live, a block each.",
        required_resource_keys={"rollout"},
        kinds={"text"},
        owners=rollout.owners,
        partitions_def=rollout.partitions,
    )
    def canary_env_sequence(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg] # dagster reads it
        entered = enter(context.op_execution_context, rollout, opens=True)
        context.log.info("rollout folder: %s", entered.evidence.folder)
        rollout.steps.opening.run(entered)
        text = entered.evidence.read_text(ENV_SEQUENCE) or ""
        return dg.MaterializeResult(
            metadata={
                "variables": dg.MetadataValue.md(f"```sh\n{text.strip()}\n```"),
                **file_metadata(entered.evidence, ENV_SEQUENCE),
            }
        )

    return canary_env_sequence


def summary_asset(rollout: Rollout) -> dg.AssetsDefinition:
    """The asset `summary`: writes `SUMMARY.md`, and turns the run red unless it says `allow`."""
    key = rollout.asset_key("summary")
    upstream = (
        "logs", "cohort_results", "runtime_metrics", "control_status",
    )  # fmt: skip

    @dg.asset(
        key=key,
        group_name=rollout.environment.asset_group,
        description=f"`{SUMMARY}`: the decision that people promote on, its reasons and evidence.",
        deps=[rollout.asset_key(name) for name in upstream],
        required_resource_keys={"rollout"},
        check_specs=[
            dg.AssetCheckSpec(
                GO_NO_GO,
                asset=key,
                blocking=True,
                description="`allow` only if every gate passed and no cohort failed.",
            )
        ],
        kinds={"markdown"},
        owners=rollout.owners,
        partitions_def=rollout.partitions,
    )
    def summary(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg] # dagster reads it
        entered = enter(context.op_execution_context, rollout)
        alone = context.run.step_keys_to_execute == [key.to_python_identifier()]
        if alone and not goes_on(context.run):
            _warn_of_repetition(entered)
        decision = conclude(entered, "finished")
        context.instance.add_run_tags(context.run.run_id, decision_tags(entered.evidence, decision))
        for reason in decision.reasons:
            context.log.warning("blocks: %s (evidence: %s)", reason.text, reason.evidence)
        context.log.info("decision: %s; %s", decision.word, entered.evidence.folder / SUMMARY)
        return dg.MaterializeResult(
            metadata={
                **decision_metadata(entered.evidence, decision),
                **timeline_metadata(entered.evidence, context.log.warning),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=GO_NO_GO,
                    passed=decision.allowed,
                    description=verdict(decision, entered.evidence.record()),
                    metadata=check_metadata(entered.evidence, SUMMARY),
                )
            ],
        )

    return summary


def _warn_of_repetition(entered: Context) -> None:
    if not decide_so_far(entered.evidence.verified_record()).allowed:
        message = (
            "this run only repeats the summary; to go on, *Re-execute from failure*, or "
            f"`canary-rollout resume {entered.evidence.folder}`"
        )
        entered.warn("summary", message)


def promotion_asset(rollout: Rollout) -> dg.AssetSpec:
    """The asset `promotion`, which no step makes: it is there once a run has ended with `allow`."""
    return dg.AssetSpec(
        promotion_key(rollout.environment),
        group_name=f"{rollout.environment.asset_group}_promotion",
        description=(
            "Materialized by an `allow` only, once its rollout is over: what automation hangs on "
            "to. Its metadata names the commit, the rollout's folder and the decision's digest. "
            "(`summary` is materialized by a `block` too.)"
        ),
        deps=[rollout.asset_key("summary")],
        owners=rollout.owners,
        partitions_def=rollout.partitions,
    )
