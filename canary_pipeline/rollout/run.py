"""A whole rollout, run by the core alone: the same steps that Dagster drives."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from canary_pipeline.model.decision import Decision, decide
from canary_pipeline.outside.stop import Signals, StoppedError
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.steps import Lanes, Step, Steps


def roll_out(
    context: Context, steps: Steps, signals: Signals, most_at_once: int | None = None
) -> Decision:
    """Run every step to its end, and conclude whatever happens.

    Args:
        context: This attempt at the rollout.
        steps: Its steps.
        signals: Stop it at any time; another one ends the rollback that follows.
        most_at_once: How many steps may run side by side; None for as many as there are.
    """
    working = replace(context, check_stop=signals.stop.check)
    concluding = replace(context, check_stop=signals.check_again)
    try:
        run_phases(steps.phases, working, most_at_once)
    except StoppedError as stopped:
        signals.obey()
        return conclude(concluding, "aborted", str(stopped))
    except Exception as error:
        signals.obey()
        conclude(concluding, "crashed", f"a step failed ({type(error).__name__})")
        raise
    return decide(context.evidence.verified_record())


def run_phases(phases: Iterable[Lanes], context: Context, most_at_once: int | None = None) -> None:
    """Run phases one after another, the lanes of each side by side."""
    for phase in phases:
        _side_by_side(phase, context, most_at_once)


def _side_by_side(lanes: Lanes, context: Context, most_at_once: int | None) -> None:
    workers = most_at_once or max(len(lanes), 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="lane") as pool:
        for ended in [pool.submit(_one_by_one, lane, context) for lane in lanes]:
            ended.result()


def _one_by_one(lane: tuple[Step, ...], context: Context) -> None:
    for step in lane:
        context.check_stop()
        step.run(context)
