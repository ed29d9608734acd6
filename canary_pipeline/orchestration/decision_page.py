"""A decision as the asset `summary` shows it, whether its step or somebody after it decided."""

import dagster as dg

from canary_pipeline.model.decision import Decision
from canary_pipeline.model.plan import Environment
from canary_pipeline.orchestration.evidence_metadata import check_metadata, file_metadata
from canary_pipeline.rollout.attempts import duration_seconds
from canary_pipeline.store.folder import SUMMARY, Evidence

GO_NO_GO = "go_no_go"


def decision_metadata(evidence: Evidence, decision: Decision) -> dict[str, dg.MetadataValue]:
    """The decision, the whole summary, and numbers to follow from rollout to rollout."""
    text = evidence.read_text(SUMMARY) or ""
    return {
        "decision": dg.MetadataValue.text(decision.word),
        "summary": dg.MetadataValue.md(f"**Decision: {decision.word}**\n\n{text}"),
        "allowed": dg.MetadataValue.int(int(decision.allowed)),
        "reasons": dg.MetadataValue.int(len(decision.reasons)),
        "duration_seconds": dg.MetadataValue.float(duration_seconds(evidence.header())),
        **file_metadata(evidence, SUMMARY),
    }


def verdict(decision: Decision) -> str:
    """The decision and every reason as a sentence."""
    if decision.allowed:
        return "allow: every gate passed, and no cohort's probe failed."
    return "block: " + "; ".join(reason.text for reason in decision.reasons) + "."


def report_decision(
    instance: dg.DagsterInstance, environment: Environment, evidence: Evidence, decision: Decision
) -> None:
    """Show a decision that no step shows, lest the page go on showing the rollout before.

    Args:
        instance: Where assets are recorded.
        environment: What is rolled out to.
        evidence: The rollout's folder.
        decision: What was decided.
    """
    key = dg.AssetKey([environment.asset_group, "summary"])
    metadata = decision_metadata(evidence, decision)
    instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=GO_NO_GO,
            passed=decision.allowed,
            description=verdict(decision),
            metadata=check_metadata(evidence, SUMMARY),
            blocking=True,
        )
    )
