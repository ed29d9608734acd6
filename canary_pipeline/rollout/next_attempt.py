"""The next attempt at a rollout: which gates it runs, and whether it does everything anew."""

from collections.abc import Collection

from canary_pipeline.model.decision import gate_is_clear
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.record import Attempt, Header, Record
from canary_pipeline.outside.clock import Clock
from canary_pipeline.outside.git import Checkout
from canary_pipeline.rollout.checkout import checkout_now
from canary_pipeline.store.folder import Evidence


def next_attempt(
    evidence: Evidence,
    run_id: str,
    launched_by: str,
    clock: Clock,
    runnable: Collection[str] | None,
) -> Attempt:
    """The attempt of a run that works on a rollout for the first time.

    Args:
        evidence: The rollout's folder.
        run_id: The run.
        launched_by: Who or what started it.
        clock: Time.
        runnable: The gates that the run can run; None for all.
    """
    record = evidence.record()
    header = record.header
    checkout = checkout_now(header, evidence.folder)
    anew = header.withdrawn is not None or _moved(header, checkout)
    gates = _gates_to_run(record, anew=anew)
    return Attempt(
        attempt=len(header.attempts) + 1,
        run_id=run_id,
        launched_by=launched_by,
        started_at=rfc3339(clock.now()),
        gates_to_run=tuple(name for name in gates if runnable is None or name in runnable),
        anew=anew,
        commit=checkout.commit,
        dirty=checkout.dirty,
        claim_token=evidence.holding.token,
    )


def _moved(header: Header, checkout: Checkout) -> bool:
    """Whether earlier attempts saw another state of the checkout."""
    last = header.last_attempt
    if last is None or last.commit is None:  # an older version noted it for the rollout only
        before = (header.commit, header.dirty)
    else:
        before = (last.commit_after or last.commit, last.dirty)
    return (
        bool(header.attempts)
        and before[0] is not None
        and (before != (checkout.commit, checkout.dirty))
    )


def _gates_to_run(record: Record, *, anew: bool) -> list[str]:
    names = [gate.name for gate in record.header.gates]
    if record.header.skip_gates:
        return []
    if anew or any(row is not None and row.status != "passed" for _, row in record.gates):
        return names
    # What another environment has decided may have changed since.
    return [
        gate.name
        for gate in record.header.gates
        if gate.after or not gate_is_clear(record, gate.name)
    ]
