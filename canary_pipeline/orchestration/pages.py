"""Evidence as Dagster metadata: what an asset's page shows without leaving the browser."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import dagster as dg

from canary_pipeline.model.commit import tested
from canary_pipeline.model.decision import Decision
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.record import Record
from canary_pipeline.model.remarks import remarks
from canary_pipeline.reports.health import bad_moments, watched_soaks
from canary_pipeline.reports.tables import Table
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.layout import DECISION, SUMMARY, TIMELINE

TAIL_LINES = 20

GO_NO_GO = "go_no_go"


def file_metadata(evidence: Evidence, name: str) -> dict[str, dg.MetadataValue]:
    """Path, size in bytes and SHA-256 of a file."""
    return {
        "path": dg.MetadataValue.path(str(evidence.folder / name)),
        "size_bytes": dg.MetadataValue.int(evidence.size(name) or 0),
        "sha256": dg.MetadataValue.text(evidence.sha256(name) or "no such file"),
    }


def files_metadata(evidence: Evidence, names: Sequence[str]) -> dict[str, dg.MetadataValue]:
    """The folder of several files, and a table of them with size in bytes and SHA-256."""
    records = [
        dg.TableRecord(
            {
                "file": name,
                "size_bytes": evidence.size(name) or 0,
                "sha256": evidence.sha256(name) or "no such file",
            }
        )
        for name in names
    ]
    columns = [
        dg.TableColumn("file", "string"),
        dg.TableColumn("size_bytes", "int"),
        dg.TableColumn("sha256", "string"),
    ]
    return {
        "path": dg.MetadataValue.path(str(evidence.folder)),
        "files": dg.MetadataValue.table(records, dg.TableSchema(columns)),
    }


def check_metadata(evidence: Evidence, name: str) -> dict[str, dg.MetadataValue]:
    """Where a check's evidence lies."""
    return {"evidence": dg.MetadataValue.path(str(evidence.folder / name))}


def image(png: bytes) -> dg.MetadataValue:
    """A PNG picture that the browser shows."""
    return dg.MetadataValue.md(f"![](data:image/png;base64,{b64encode(png).decode()})")


def table(found: Table) -> dg.MetadataValue:
    """A table with its schema."""
    columns = [dg.TableColumn(name, kind) for name, kind in found.columns.items()]
    records = [dg.TableRecord({name: row[name] for name in found.columns}) for row in found.rows]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def log_tails(evidence: Evidence, record: Record) -> dict[str, dg.MetadataValue]:
    """The end of each failing gate's log; size and SHA-256 of every log."""
    rows = [row for _, row in record.gates if row is not None and row.log_file is not None]
    metadata = files_metadata(evidence, [row.log_file or "" for row in rows])
    for row in rows:
        name = row.log_file or ""
        metadata[f"size_bytes/{row.gate}"] = dg.MetadataValue.int(evidence.size(name) or 0)
        if row.status != "passed":
            text = evidence.tail(name, TAIL_LINES)
            metadata[f"tail/{row.gate}"] = dg.MetadataValue.md(f"```text\n{text}\n```")
    return metadata


def decision_metadata(evidence: Evidence, decision: Decision) -> dict[str, dg.MetadataValue]:
    """The decision, the whole summary, and numbers to follow from rollout to rollout."""
    text, record = evidence.read_text(SUMMARY) or "", evidence.record()
    heading = "; ".join((f"Decision: {decision.word}", *remarks(record)))
    return {
        "decision": dg.MetadataValue.text(decision.word),
        "summary": dg.MetadataValue.md(f"**{heading}**\n\n{text}"),
        "allowed": dg.MetadataValue.int(int(decision.allowed)),
        "reasons": dg.MetadataValue.int(len(decision.reasons)),
        "duration_seconds": dg.MetadataValue.float(record.duration_seconds or 0.0),
        **file_metadata(evidence, SUMMARY),
        DECISION: dg.MetadataValue.md(f"```json\n{evidence.read_text(DECISION) or ''}\n```"),
        "decision_sha256": dg.MetadataValue.text(evidence.sha256(DECISION) or "no such file"),
    }


def timeline_metadata(
    evidence: Evidence, say: Callable[[str], object] = lambda _line: None
) -> dict[str, dg.MetadataValue]:
    """The picture of a rollout, which is kept in its folder too; nothing where it fails."""
    try:
        from canary_pipeline.reports.timeline import timeline  # noqa: PLC0415 - a missing library

        record = evidence.verified_record()
        bad_looks = bad_moments(list(watched_soaks(record, evidence)))
        picture = timeline(record, datetime.now(UTC), bad_looks)
        evidence.write_bytes(TIMELINE, picture)
    except Exception as error:  # noqa: BLE001 - a picture never stands in the way of a decision
        say(f"the timeline could not be drawn: {type(error).__name__}")
        return {}
    return {"timeline": image(picture)}


def verdict(decision: Decision, record: Record) -> str:
    """The decision and every reason as a sentence."""
    if decision.allowed:
        passed = "every gate passed, and no cohort's probe failed"
        return "; ".join((f"allow: {passed}", *remarks(record))) + "."
    return "block: " + "; ".join(reason.text for reason in decision.reasons) + "."


def promotion_key(environment: Environment) -> dg.AssetKey:
    """The key of what automation hangs on to."""
    return dg.AssetKey([environment.asset_group, "promotion"])


def report_promotion(
    instance: dg.DagsterInstance, environment: Environment, evidence: Evidence, record: Record
) -> None:
    """Materialize `promotion`, for a decision that is `allow` and nothing else."""
    decided = DECISION if evidence.exists(DECISION) else SUMMARY
    metadata = {
        "commit": dg.MetadataValue.text(tested(record).clean_commit or str(tested(record))),
        "folder": dg.MetadataValue.path(str(evidence.folder)),
        "digest": dg.MetadataValue.text(evidence.sha256(decided) or ""),
        "decision_file": dg.MetadataValue.path(str(evidence.folder / decided)),
    }
    event = dg.AssetMaterialization(
        promotion_key(environment), metadata=metadata, partition=environment.partition
    )
    instance.report_runless_asset_event(event)


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
    metadata = {**decision_metadata(evidence, decision), **timeline_metadata(evidence)}
    instance.report_runless_asset_event(
        dg.AssetMaterialization(key, metadata=metadata, partition=environment.partition)
    )
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=GO_NO_GO,
            passed=decision.allowed,
            description=verdict(decision, evidence.record()),
            metadata=check_metadata(evidence, SUMMARY),
            blocking=True,
        )
    )
