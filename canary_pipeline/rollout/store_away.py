"""Waiting for a store that is away: what must not be done unseen is done once it is back."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from canary_pipeline.outside.held_lease import RETRY_SECONDS
from canary_pipeline.outside.object_store import StoreUnreachableError
from canary_pipeline.rollout.context import Context

T = TypeVar("T")


def answered(context: Context, ask: Callable[[], T]) -> T:
    """What a store answers, which is asked until it does, as long as the environment is held.

    Args:
        context: The rollout; what stops it ends the waiting.
        ask: Asks; raises `StoreUnreachableError` where there is no answer.

    Raises:
        LostError: When the environment is, or may be, another's.
    """
    while True:
        with suppress(StoreUnreachableError), context.evidence.holding.losing():
            return ask()
        context.check_stop()
        context.clock.sleep(RETRY_SECONDS)
