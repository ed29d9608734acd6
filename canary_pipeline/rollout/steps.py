"""The steps of a rollout, in order: what the core runs, and Dagster's graph is built from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from canary_pipeline.model.plan import Gate
from canary_pipeline.rollout.attempts import must_run
from canary_pipeline.rollout.checks.look import warn_of_unknown_names
from canary_pipeline.rollout.checks.snapshot import take_snapshots
from canary_pipeline.rollout.cohort import run_cohort
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.gate import record_skipped_gates, run_gate
from canary_pipeline.rollout.live.rollback import settle


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: As people know it, such as `gate sync-security` or `cohort 25`.
        run: Takes it to its end; returns the row that it added, if it did.
    """

    name: str
    run: Callable[[Context], object]


Lanes = tuple[tuple[Step, ...], ...]
"""Lanes run side by side, the steps of a lane one after another."""


@dataclass(frozen=True)
class Steps:
    """All steps of a rollout.

    Attributes:
        opening: Notes what staging says of itself before anything is done.
        gates: Lanes of gates: lanes run side by side, the gates of a lane one after another.
        gathering: Comes when every gate has ended.
        cohorts: One after another.
        restoring: Rolls back where the rollout blocks; absent where it changes nothing.
        closing: Notes what staging says of itself after all.
        deciding: Writes the decision.
    """

    opening: Step
    gates: Lanes
    gathering: Step
    cohorts: tuple[Step, ...]
    restoring: tuple[Step, ...]
    closing: Step
    deciding: Step

    @property
    def phases(self) -> tuple[Lanes, ...]:
        """The steps in order: phases one after another, each of lanes side by side."""
        line = (self.gathering, *self.cohorts, *self.restoring, self.closing, self.deciding)
        return (((self.opening,),), self.gates, (line,))


def steps_of(
    gates: Sequence[Gate],
    cohorts: Sequence[int],
    *,
    gate_groups: Sequence[Sequence[str]] = (),
    changes_staging: bool = False,
) -> Steps:
    """The steps of a rollout with these gates and cohorts.

    Args:
        gates: The gates.
        cohorts: Percents of users, in order.
        gate_groups: Names of gates that run one after another.
        changes_staging: Whether cohorts are made live, and rolled back.
    """
    return Steps(
        opening=Step("opening", _open),
        gates=tuple(tuple(map(_gate, lane)) for lane in lanes(gates, gate_groups)),
        gathering=Step("gate results", _gather),
        cohorts=tuple(map(_cohort, cohorts)),
        restoring=(Step("rollback", _restore),) if changes_staging else (),
        closing=Step("cohort results", lambda context: take_snapshots(context, "after")),
        deciding=Step("summary", lambda context: conclude(context, "finished")),
    )


def lanes(gates: Sequence[Gate], groups: Sequence[Sequence[str]]) -> list[tuple[Gate, ...]]:
    """The gates that run one after another, each such lane at the place of its first gate."""
    of_name = {gate.name: gate for gate in gates}
    group_of = {name: tuple(group) for group in groups for name in group}
    found = dict.fromkeys(group_of.get(gate.name, (gate.name,)) for gate in gates)
    return [tuple(of_name[name] for name in lane if name in of_name) for lane in found]


def _open(context: Context) -> None:
    last = context.evidence.header().last_attempt
    # A rollout that goes on may have a cohort live already: that is not how staging was before.
    goes_on = last is not None and not last.anew
    take_snapshots(context, "before", keeping=goes_on)
    warn_of_unknown_names(context)


def _gate(step: Gate) -> Step:
    def run(context: Context) -> object:
        gate = next((gate for gate in context.plan.gates if gate.step == step.step), None)
        if gate is None:
            context.tell(f"gate {step.name}: not part of this rollout")
            return None
        if must_run(context.evidence.header(), gate, context.attempt):
            return run_gate(gate, context)
        why = "--skip-gates" if context.plan.skip_gates else "passed in an earlier attempt"
        context.tell(f"gate {gate.name}: not run ({why})")
        return None

    return Step(f"gate {step.name}", run)


def _gather(context: Context) -> None:
    if context.plan.skip_gates:
        record_skipped_gates(context)


def _cohort(percent: int) -> Step:
    def run(context: Context) -> object:
        if percent in context.plan.cohorts:
            return run_cohort(percent, context)
        context.tell(f"cohort {percent}: not part of this rollout")
        return None

    return Step(f"cohort {percent}", run)


def _restore(context: Context) -> object:
    return settle(context, "the rollout blocks")
