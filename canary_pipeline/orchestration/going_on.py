"""Going on with a rollout by a re-execution: what Dagster selects, and what is left besides.

*From failure* selects the steps that failed and what follows them. A rollout may have more left:
at another commit all of it, after a gate that blocked every gate, and what was rolled back. Those
steps of the core are run too, before the first one that Dagster has selected.
"""

from collections.abc import Collection, Iterator

import dagster as dg

from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.run import run_phases
from canary_pipeline.rollout.steps import Lanes

FROM_FAILURE_TAG = "dagster/is_resume_retry"
FROM_ASSET_FAILURE_TAG = "dagster/is_asset_resume_retry"


def goes_on(run: dg.DagsterRun) -> bool:
    """Whether a run is to go on with what another has left, whatever that is."""
    if run.parent_run_id is None:
        return False
    from_failure = run.tags.get(FROM_FAILURE_TAG) == "true"
    if from_failure and run.step_keys_to_execute is not None:
        return True
    return run.tags.get(FROM_ASSET_FAILURE_TAG) in ("true", run.run_id)


def not_to_inherit(run: dg.DagsterRun) -> dict[str, str]:
    """What keeps *Re-execute all* of a run new: Dagster copies this tag, and leaves out the other.

    From here on it names the run that it is about.
    """
    asked = run.tags.get(FROM_ASSET_FAILURE_TAG) == "true"
    return {FROM_ASSET_FAILURE_TAG: run.run_id} if asked else {}


def catch_up(context: Context, rollout: Rollout, keys: Collection[str]) -> None:
    """Run the steps of a rollout that have none in the run; those that are done see to nothing.

    Args:
        context: The attempt.
        rollout: What the definitions are built from.
        keys: The keys of the run's steps.
    """
    left = list(_without(rollout, keys))
    if any(left):
        context.tell("what this run has no step for is seen to first")
        run_phases(left, context, rollout.parallel_gates)


def _without(rollout: Rollout, keys: Collection[str]) -> Iterator[Lanes]:
    for phase in rollout.steps.phases:
        lanes = (tuple(step for step in lane if not rollout.has_step(step, keys)) for lane in phase)
        yield tuple(lane for lane in lanes if lane)
