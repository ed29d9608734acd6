"""A step of the core as an op of Dagster's."""

from collections.abc import Iterator

import dagster as dg
from dagster import Nothing

from canary_pipeline.model.rows import CohortRow, GateRow, LiveRouting, RollbackRow
from canary_pipeline.model.wording import detail
from canary_pipeline.orchestration.engine import BlocksError
from canary_pipeline.orchestration.pages import check_metadata
from canary_pipeline.orchestration.rollout import PARTITION_TAG, Rollout
from canary_pipeline.orchestration.work import enter, outlives_a_block
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.steps import Step
from canary_pipeline.store.layout import COHORT_RESULTS

_Row = GateRow | CohortRow | RollbackRow


def step_op(
    rollout: Rollout, step: Step, name: str, description: str, **tags: str
) -> dg.OpDefinition:
    """The op that runs a step, after whatever it is called with.

    A step whose row has failed is red, which *Re-execute from failure* then begins at. What
    follows runs all the same: it writes down that nothing more is promoted.

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
    def op(context: dg.OpExecutionContext) -> Iterator[dg.Output[None]]:
        entered = enter(context, rollout)
        found = step.run(entered)
        row = found if isinstance(found, _Row) and found.run_id == context.run_id else None
        if row is not None and not isinstance(row, GateRow):
            _observe(context, rollout, _live(row))
        yield dg.Output(None)
        if row is not None and row.status == "failed" and outlives_a_block(context.run_id):
            raise _blocks(step, row, entered)

    return op


def _blocks(step: Step, row: _Row, entered: Context) -> BlocksError:
    file = COHORT_RESULTS if isinstance(row, CohortRow) else row.log_file
    return BlocksError(
        entered.evidence.redactor.text(f"{step.name} failed: {detail(row)}"),
        metadata=check_metadata(entered.evidence, file or ""),
        allow_retries=False,
    )


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
