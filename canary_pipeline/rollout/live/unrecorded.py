"""Restoring staging where the rollout's folder cannot be written any more: staging comes first."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.live.rollback import lower
from canary_pipeline.rollout.live.routing import compare, look
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.held import LostError
from canary_pipeline.store.journal import Journal


class UnrecordedError(OSError):
    """How a rollout ended could not be written; the message says what became of staging."""


def restore_unrecorded(context: Context, *, hold: bool = False) -> str:
    """Roll back what a rollout has left live, with the evidence in a temporary folder.

    Args:
        context: Whom to ask, and what was live before.
        hold: Whether it is to be left live.

    Returns:
        What became of staging, as a sentence.
    """
    header = context.evidence.header()
    wanted = header.live_before
    if wanted is None:
        return "nothing of it is live"
    if compare(wanted, look(context)).problem is None:
        return f"staging is as it was before: {wanted}"
    left = f"STAGING IS LEFT AT {header.applied_percent} %"
    if hold:
        return f"{left}, to be looked at"
    try:
        evidence = Evidence(Path(mkdtemp(prefix="rollback-")), context.evidence.redactor)
        evidence.write_header(header)
        restored = lower(replace(context, evidence=evidence), wanted)
    except OSError as error:
        return f"{left}, and no rollback could be begun ({error.strerror or error})"
    kept = f"(evidence: {evidence.folder})"
    if restored.status != "passed":
        return f"{left}: its rollback has not worked, {restored.reason}, {restored.detail} {kept}"
    with suppress(OSError, LostError):
        Journal(header.environment).settled(context.evidence.folder)
        context.evidence.holding.owe(None)
    return f"staging was restored: {restored.live} {kept}"
