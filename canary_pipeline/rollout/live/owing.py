"""What a rollout owes staging: noted before anything is changed, so that nobody has to find it out.

It is noted in the rollout's folder, in this host's journal, and where hosts share the environment
in its lease.
"""

from pathlib import Path

from canary_pipeline.model.rows import LiveRouting
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.journal import Journal, Owed


def owe(context: Context, percent: int, before: LiveRouting) -> None:
    """Note that a rollout changes staging from now on, and owes what was live before.

    Args:
        context: The rollout.
        percent: The cohort that is applied, or was last.
        before: What a rollback is to restore.

    Raises:
        OSError: When that cannot be noted.
        LostError: When the environment is, or may be, another's.
    """
    evidence, environment = context.evidence, context.plan.environment
    Journal(environment).applied(evidence.folder, percent, before)
    ours = Owed(folder=Path(evidence.folder.name), percent=percent, before=before)
    evidence.holding.owe(ours.model_dump(mode="json"))
    owed = {"live_before": before, "applied_percent": percent, "restoring": False}
    evidence.update_header(lambda header: header.model_copy(update=owed))
    evidence.holding.publish()  # a host that goes on for this one must know
