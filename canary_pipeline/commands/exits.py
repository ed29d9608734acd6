"""What the commands answer to whoever started them: every error and its exit code, in one place."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Literal, NoReturn

import click

from canary_pipeline.model.decision import Decision
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.claim import ClaimUnusableError, EnvironmentTakenError
from canary_pipeline.outside.durable import in_words
from canary_pipeline.outside.lease import LeaseChangedError, LeaseUnreadableError
from canary_pipeline.outside.object_store import StoreUnreachableError, StoreUnusableError
from canary_pipeline.outside.stop import StoppedError
from canary_pipeline.rollout.attempts import FolderTakenError, RolloutMismatchError
from canary_pipeline.rollout.superseded import SupersededError
from canary_pipeline.settings import SettingError
from canary_pipeline.store.folder import NotARolloutError


class Exit(IntEnum):
    """Exit codes, as the contract fixes them."""

    ALLOW = 0
    BLOCK = 1
    BAD_INPUT = 2
    NO_DECISION = 3


class BadInputError(Exception):
    """What was asked for cannot be done as it was said; nothing was written."""


class NoDecisionError(Exception):
    """What was asked for could not be brought to a decision."""


BAD_INPUT = (
    BadInputError, SettingError, NotARolloutError, RolloutMismatchError, FolderTakenError,
    StoreUnusableError, SupersededError,
)  # fmt: skip
"""What nothing was written for."""

NO_DECISION = (
    NoDecisionError, EnvironmentTakenError, ClaimUnusableError, StoreUnreachableError,
    LeaseUnreadableError, LeaseChangedError, StoppedError,
)  # fmt: skip
"""What keeps a decision from being reached."""


def exit_of(decision: Decision | None, *, stopped: bool = False, green: bool = True) -> Exit:
    """The exit code of a rollout.

    Args:
        decision: What was decided; None where nothing was.
        stopped: Whether it was stopped before its end.
        green: Whether Dagster's run succeeded.
    """
    if decision is None or stopped or (decision.allowed and not green):
        return Exit.NO_DECISION
    return Exit.ALLOW if decision.allowed else Exit.BLOCK


def exit_of_answer(answer: Literal["allow", "block", "none"]) -> Exit:
    """The exit code of a verification."""
    return {"allow": Exit.ALLOW, "block": Exit.BLOCK, "none": Exit.NO_DECISION}[answer]


def exit_of_rollback(status: str) -> Exit:
    """The exit code of a rollback that somebody asked for, by its row's status."""
    return Exit.ALLOW if status == "passed" else Exit.BLOCK


def exit_of_status(*, left_live: bool, unusable: bool = False, undecided: bool = False) -> Exit:
    """The exit code of a report.

    Args:
        left_live: Whether a rollout that is not at work any more has left a cohort live.
        unusable: Whether settings or a rollout cannot be used, so that not all could be told.
        undecided: Whether a decision was to be printed, and there is none.
    """
    if undecided:
        return Exit.NO_DECISION
    if left_live:
        return Exit.BLOCK
    return Exit.BAD_INPUT if unusable else Exit.ALLOW


@contextmanager
def answers() -> Iterator[None]:
    """Turn what can go wrong into one line and an exit code."""
    try:
        yield
    except BAD_INPUT as error:
        _fail(Exit.BAD_INPUT, str(error))
    except NO_DECISION as error:
        _fail(Exit.NO_DECISION, str(error))
    except OSError as error:
        _fail(Exit.NO_DECISION, in_words(error))
    except KeyboardInterrupt:
        _fail(Exit.NO_DECISION, "interrupted")
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:  # noqa: BLE001 - one that nobody foresaw is no block
        traceback.print_exc()
        _fail(Exit.NO_DECISION, f"nobody foresaw this {type(error).__name__}: please report it")


def _fail(code: Exit, message: str) -> NoReturn:
    print(f"canary-rollout: {one_line(message)}", file=sys.stderr)
    sys.exit(code)
