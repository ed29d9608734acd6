"""What staging says of itself at a moment, kept as a file; what fails is only a warning."""

from canary_pipeline.model.plan import SNAPSHOT_KINDS
from canary_pipeline.rollout.context import Context
from canary_pipeline.store import layout


def take_snapshots(
    context: Context, moment: str, step: str = "snapshots", *, keeping: bool = False
) -> None:
    """Take each snapshot whose URL is configured.

    Args:
        context: Where to ask, and where to keep it.
        moment: `before`, `after`, `before_<p>` or `after_<p>`.
        step: Whose warning it is when one fails.
        keeping: Whether one that is there stays, and only others are taken.
    """
    for kind in SNAPSHOT_KINDS:
        name = layout.snapshot(kind, moment)
        if keeping and context.evidence.exists(name):
            continue
        taken = context.control.snapshot(kind)
        if isinstance(taken, bytes):
            context.evidence.write_bytes(name, taken)
        elif taken is not None:
            context.warn(step, f"no snapshot {name}: {taken}")
