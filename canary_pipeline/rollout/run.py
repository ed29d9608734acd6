"""Runs steps of a rollout by the core alone: the same that Dagster drives."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.steps import Lanes, Step

LOOK_UP_SECONDS = 0.1
"""How often who waits for steps looks up: a signal that comes as the wait begins is seen then."""


def run_phases(phases: Iterable[Lanes], context: Context, most_at_once: int | None = None) -> None:
    """Run phases one after another, the lanes of each side by side.

    Args:
        phases: The phases.
        context: The attempt; what stops it ends each step.
        most_at_once: How many steps may run side by side; None for as many as there are.
    """
    for phase in phases:
        _side_by_side(phase, context, most_at_once)


def _side_by_side(lanes: Lanes, context: Context, most_at_once: int | None) -> None:
    workers = most_at_once or max(len(lanes), 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="lane") as pool:
        every = [pool.submit(_one_by_one, lane, context) for lane in lanes]
        running: set[Future[None]] = set(every)
        while running:
            running = wait(running, LOOK_UP_SECONDS).not_done
        for ended in every:
            ended.result()


def _one_by_one(lane: tuple[Step, ...], context: Context) -> None:
    for step in lane:
        context.check_stop()
        step.run(context)
