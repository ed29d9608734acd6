"""The asset that tabulates past rollouts, made anew after each."""

from pathlib import Path
from typing import Any

import dagster as dg

from canary_pipeline.orchestration.pages import image, table
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.reports.history import PastRollout, past_rollouts
from canary_pipeline.reports.tables import Cell, ColumnKind, Table

MOST_SHOWN = 100
"""Rollouts in the table and the picture; `canary-rollout history` tells of any number."""


def history_name(rollout: Rollout) -> str:
    """The name of the asset, and of its group."""
    return f"{rollout.environment.asset_group}_history"


def history_asset(rollout: Rollout) -> dg.AssetsDefinition:
    """The asset `<environment>_canary_history`; it reads evidence folders and is in no rollout."""
    root = Path(rollout.environment.output_root)

    @dg.asset(
        name=history_name(rollout),
        group_name=history_name(rollout),
        description=(
            f"Past rollouts below `{root}/`: decision, duration, what blocked, and how "
            "that changed over time."
        ),
        deps=[rollout.asset_key("summary")],
        automation_condition=_after_any(rollout),
        kinds={"table"},
        owners=rollout.owners,
    )
    def history() -> dg.MaterializeResult:  # type: ignore[type-arg] # dagster reads it
        names = {environment.name for environment in rollout.environment.rolled_out_to}
        found = past_rollouts(root, MOST_SHOWN, names) if root.is_dir() else []
        return dg.MaterializeResult(metadata=_metadata(found))

    return history


def _after_any(rollout: Rollout) -> dg.AutomationCondition[Any]:
    """Once a summary is new: of any environment, whatever the others have or do."""
    eager, condition = dg.AutomationCondition.eager(), dg.AutomationCondition
    if rollout.partitions is None:
        return eager
    return eager.without(~condition.any_deps_missing()).without(~condition.any_deps_in_progress())


def history_sensor(rollout: Rollout) -> dg.AutomationConditionSensorDefinition:
    """What makes the history anew once a rollout has written its summary."""
    return dg.AutomationConditionSensorDefinition(
        f"{history_name(rollout)}_sensor",
        target=dg.AssetSelection.groups(history_name(rollout)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tabulates past rollouts anew once a rollout has written its summary.",
    )


def _metadata(found: list[PastRollout]) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "rollouts": dg.MetadataValue.int(len(found)),
        "allowed": dg.MetadataValue.int(sum(rollout.decision == "allow" for rollout in found)),
        "blocked": dg.MetadataValue.int(sum(rollout.decision == "block" for rollout in found)),
    }
    if found:
        from canary_pipeline.reports.trend import trend  # noqa: PLC0415 - imports matplotlib

        metadata["history"] = table(_table(found))
        metadata["trend"] = image(trend(found))
    return metadata


def _table(found: list[PastRollout]) -> Table:
    columns: dict[str, ColumnKind] = {
        "started": "string", "decision": "string", "duration_seconds": "float",
        "reached_percent": "int", "what_blocked": "string", "remarks": "string",
        "launched_by": "string", "folder": "string",
    }  # fmt: skip
    return Table(columns, [_cells(rollout) for rollout in found])


def _cells(rollout: PastRollout) -> dict[str, Cell]:
    started = rollout.started_at
    return {
        "started": started.strftime("%Y-%m-%d %H:%M:%S") if started else "",
        "decision": rollout.decision or "none",
        "duration_seconds": rollout.duration_seconds,
        "reached_percent": rollout.highest_passed,
        "what_blocked": rollout.problem or rollout.what_blocked,
        "remarks": "; ".join(rollout.remarks),
        "launched_by": rollout.launched_by,
        "folder": rollout.folder.name,
    }
