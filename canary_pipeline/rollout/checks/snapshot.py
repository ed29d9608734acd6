"""What staging says of itself at a moment, kept as a file; what fails is only a warning."""

from canary_pipeline.model.plan import SNAPSHOT_KINDS
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.store.folder import snapshot_name


def take_snapshots(
    control_plane: ControlPlane, around: Surroundings, moment: str, step: str = "snapshots"
) -> None:
    """Take each snapshot whose URL is configured.

    Args:
        control_plane: Where to ask.
        around: Where to keep it.
        moment: `before`, `after`, `before_<p>` or `after_<p>`.
        step: Whose warning it is when one fails.
    """
    for kind in SNAPSHOT_KINDS:
        taken = control_plane.snapshot(kind)
        name = snapshot_name(kind, moment)
        if isinstance(taken, bytes):
            around.evidence.write_bytes(name, around.redactor.data(taken))
        elif taken is not None:
            around.warn(step, f"no snapshot {name}: {taken}")
