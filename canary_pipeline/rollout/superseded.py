"""A rollout that is not the newest: worked on only if asked twice, since another one speaks."""

import shlex
from pathlib import Path

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.reports.decided import write_decision, written_decision
from canary_pipeline.reports.notice import announce
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.store_away import answered
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.journal import Journal


class SupersededError(Exception):
    """A newer rollout speaks for the environment; the message names it, and how to insist."""


def refuse_superseded(evidence: Evidence, environment: str, command: str = "resume") -> None:
    """Make sure that no newer rollout speaks for an environment.

    Args:
        evidence: The rollout's folder.
        environment: What it rolls out to.
        command: The command that goes on all the same.

    Raises:
        SupersededError: When one does.
    """
    newer = _newer(evidence, environment)
    if newer is not None:
        insisting = f"canary-rollout {command} --superseded {shlex.quote(str(evidence.folder))}"
        withdraws = ", and withdraws what that one has decided"
        message = (
            f"{newer} is newer, and speaks for {environment}; `{insisting}` goes on with this one "
            f"all the same{withdraws if evidence.header().changes_staging else ''}"
        )
        raise SupersededError(message)


def _newer(evidence: Evidence, environment: str) -> Path | None:
    """The rollout that speaks for an environment instead, of any host, or None."""
    published = evidence.holding.newer_than(evidence.folder)
    return published or Journal(environment).newer_than(evidence.folder)


def withdraw_newer(context: Context) -> None:
    """Withdraw what a newer rollout has decided, since this one is about to change staging.

    Raises:
        OSError: When that cannot be written.
        StoreUnreachableError: When nobody can say whether there is one.
    """
    folder = context.evidence.folder
    holding = context.evidence.holding
    newer = _newer(context.evidence, context.plan.environment)
    if newer is None:
        return
    other = Evidence(newer, context.evidence.redactor, holding.beside(newer))
    try:
        if other.header().withdrawn:
            return
    except NotARolloutError:
        return
    context.warn("superseded", f"{newer} is newer; what it has decided is withdrawn")
    withdrawn = {
        "withdrawn": f"{folder.name}, which is older, has changed {context.plan.environment} since",
        "decided_at": rfc3339(context.clock.now()),
        "live_before": None,
        "applied_percent": None,
        "restoring": False,
    }
    said = written_decision(other)
    other.update_header(lambda header: header.model_copy(update=withdrawn))
    decision = write_decision(other, other.verified_record(), context.signing_key)
    if said == "allow":
        announce(other, "withdrawn", decision)


def await_withdrawal(context: Context) -> None:
    """Withdraw it too, but wait for a store that is away, as long as the environment is held.

    Raises:
        OSError: When that cannot be written.
        LostError: When the environment is, or may be, another's.
    """
    answered(context, lambda: withdraw_newer(context))
