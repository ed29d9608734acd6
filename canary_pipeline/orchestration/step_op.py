"""A step of the core as an op of Dagster's."""

import dagster as dg
from dagster import Nothing

from canary_pipeline.model.rows import CohortRow, LiveRouting, RollbackRow
from canary_pipeline.orchestration.rollout import PARTITION_TAG, Rollout
from canary_pipeline.orchestration.work import enter
from canary_pipeline.rollout.steps import Step


def step_op(
    rollout: Rollout, step: Step, name: str, description: str, **tags: str
) -> dg.OpDefinition:
    """The op that runs a step, after whatever it is called with.

    Args:
        rollout: What the definitions are built from.
        step: The step.
        name: The op's name.
        description: What people read of it.
        tags: Its tags; `kind` shows as a badge.
    """

    @dg.op(
        name=name,
        description=description,
        ins={"previous": dg.In(Nothing)},
        out=dg.Out(Nothing),
        required_resource_keys={"rollout"},
        tags=tags,
    )
    def op(context: dg.OpExecutionContext) -> None:
        row = step.run(enter(context, rollout))
        if isinstance(row, (CohortRow, RollbackRow)) and row.run_id == context.run_id:
            _observe(context, rollout, _live(row))

    return op


def _live(row: CohortRow | RollbackRow) -> LiveRouting | None:
    return row.live_after_soak or row.live if isinstance(row, CohortRow) else row.live


def _observe(context: dg.OpExecutionContext, rollout: Rollout, live: LiveRouting | None) -> None:
    """Note which percents are live, as numbers that Dagster plots over time."""
    if live is None:
        return
    metadata: dict[str, int] = {
        "live_user_percent": live.user_percent,
        "live_autopilot_percent": live.autopilot_percent,
    }
    context.log_event(
        dg.AssetObservation(
            rollout.asset_key("control_status"),
            str(live),
            metadata=metadata,
            partition=context.run.tags.get(PARTITION_TAG),
        )
    )
