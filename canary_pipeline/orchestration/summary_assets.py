"""The first asset and the last: the rollout's opening, and the summary that decides."""

import dagster as dg

from canary_pipeline.orchestration.decision_page import GO_NO_GO, decision_metadata, verdict
from canary_pipeline.orchestration.evidence_metadata import (
    check_metadata,
    file_metadata,
    image,
)
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import DECISION_TAG
from canary_pipeline.orchestration.step import Step, enter
from canary_pipeline.rollout.attempts import draw_timeline, end
from canary_pipeline.rollout.checks.snapshot import take_snapshots
from canary_pipeline.store.folder import ENV_SEQUENCE, SUMMARY


def opening_asset(rollout: Rollout) -> dg.AssetsDefinition:
    """The asset `canary_env_sequence`, whose step opens the rollout's folder."""

    @dg.asset(
        key=rollout.asset_key("canary_env_sequence"),
        group_name=rollout.environment.asset_group,
        description=f"`{ENV_SEQUENCE}`: the variables that make each cohort live, a block each.",
        required_resource_keys={"rollout"},
        kinds={"text"},
        owners=rollout.owners,
    )
    def canary_env_sequence(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg] # dagster reads it
        step = enter(context.op_execution_context, rollout, opens=True)
        context.log.info("rollout folder: %s", step.evidence.folder)
        take_snapshots(step.control_plane, step.around, "before")
        text = step.evidence.read_text(ENV_SEQUENCE) or ""
        return dg.MaterializeResult(
            metadata={
                "variables": dg.MetadataValue.md(f"```sh\n{text.strip()}\n```"),
                **file_metadata(step.evidence, ENV_SEQUENCE),
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
    )
    def summary(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg] # dagster reads it
        step = enter(context.op_execution_context, rollout)
        decision = end(step.evidence, context.run.run_id, "finished", None, step.around.clock)
        context.instance.add_run_tags(context.run.run_id, {DECISION_TAG: decision.word})
        for reason in decision.reasons:
            context.log.warning("blocks: %s (evidence: %s)", reason.text, reason.evidence)
        context.log.info("decision: %s; %s", decision.word, step.evidence.folder / SUMMARY)
        return dg.MaterializeResult(
            metadata={**decision_metadata(step.evidence, decision), **_picture(context, step)},
            check_results=[
                dg.AssetCheckResult(
                    check_name=GO_NO_GO,
                    passed=decision.allowed,
                    description=verdict(decision),
                    metadata=check_metadata(step.evidence, SUMMARY),
                )
            ],
        )

    return summary


def _picture(context: dg.AssetExecutionContext, step: Step) -> dict[str, dg.MetadataValue]:
    try:
        return {"timeline": image(draw_timeline(step.evidence, step.around.clock))}
    except Exception as error:  # noqa: BLE001 - a picture never stands in the way of a decision
        context.log.warning("the timeline could not be drawn: %s", type(error).__name__)
        return {}
