"""The checkout that the gates judge, apart from evidence that is kept in it."""

from pathlib import Path

from canary_pipeline.model.environment import OUTPUT_ROOT
from canary_pipeline.model.plan import Plan
from canary_pipeline.outside.git import Checkout, checkout_state


def checkout_now(plan: Plan, folder: Path) -> Checkout:
    """The commit of a rollout's checkout, and whether it has uncommitted changes.

    Args:
        plan: Where the checkout is.
        folder: The rollout's folder; beside it, in the usual place, others do not count either.
    """
    usual = folder.parent.as_posix().endswith(OUTPUT_ROOT)
    return checkout_state(Path(plan.repo_root), folder.parent if usual else folder)
