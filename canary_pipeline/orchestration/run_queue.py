"""Dagster's queue of runs, in which a run does not speak in tags that it has inherited."""

import dagster as dg

from canary_pipeline.orchestration.engine import QueuedRunCoordinator, SubmitRunContext
from canary_pipeline.orchestration.runs import DECISION_TAG, unsay_inherited


class RolloutQueue(QueuedRunCoordinator):
    """The queue of an instance whose `dagster.yaml` names it as its `run_coordinator`.

    Dagster copies the tags of a run to its re-execution, the decision among them. Whoever looks at
    the list of runs sees that until the run begins, which in a queue may be hours.
    """

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Unsay what a run says of a decision that it has not reached, and queue it."""
        new = context.dagster_run
        if new.status == dg.DagsterRunStatus.NOT_STARTED and DECISION_TAG in new.tags:
            unsay_inherited(self._instance, new)
        run: dg.DagsterRun = super().submit_run(context)
        return run
