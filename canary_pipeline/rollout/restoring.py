"""Restoring staging for a rollout whose own steps do not: it was stopped, crashed or killed.

The settings are those that the rollout recorded; only URLs and the token come from outside.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from canary_pipeline.model.plan import Environment, Plan
from canary_pipeline.model.rows import Header, RollbackRow
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.outside.token import Redactor
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.attempts import RolloutMismatchError, settled_plan
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.live.rollback import cannot_roll_back, is_to_settle, roll_back, settle
from canary_pipeline.settings import SettingError, resolve, settings_table
from canary_pipeline.store.folder import Evidence


def recorded_settings(evidence: Evidence, environment: Environment) -> dict[str, str]:
    """The variables that give a rollout's graph and checkout again as they were.

    Raises:
        NotARolloutError: When the folder holds no rollout.
    """
    header, table = evidence.header(), settings_table(environment)
    recorded = {
        "cohorts": ",".join(map(str, header.cohorts)),
        "soak_seconds": str(header.soak_seconds),
        "repo_root": header.repo_root,
        "gate_timeout_seconds": str(header.gate_timeout_seconds),
        "http_timeout_seconds": str(header.http_timeout_seconds),
        "apply_command": header.apply_command or "",
        "rollback_command": header.rollback_command or "",
        "on_block": header.on_block or "",
        "verify_timeout_seconds": str(header.verify_timeout_seconds or ""),
    }
    return {table[name].variable or "": value for name, value in recorded.items()}


def refuse_another_apply_command(
    header: Header, environment: Environment, variables: Mapping[str, str]
) -> None:
    """Make sure that a rollout goes on with what it applied, where the variables name a command.

    Raises:
        RolloutMismatchError: When they name another one.
    """
    name = settings_table(environment)["apply_command"].variable or ""
    command = variables.get(name)
    if command and command != header.apply_command and not header.skip_gates:
        message = f"the apply command was {header.apply_command!r} when this rollout started"
        raise RolloutMismatchError(f"{message}; {name} is another")


def settle_stopped(
    evidence: Evidence,
    environment: Environment,
    run_id: str,
    cause: str,
    say: Callable[[str], None] = lambda _line: None,
) -> RollbackRow | None:
    """Roll back a rollout that has ended and blocks with a cohort live; write its summary anew.

    Args:
        evidence: The rollout's folder.
        environment: What was rolled out to.
        run_id: The run that ended.
        cause: Why it ended, free of secrets.
        say: Takes lines for the log book.

    Returns:
        How that went, or None where nothing is to be rolled back. A signal meanwhile ends the
        rollback, and the row says so.
    """
    if evidence.header().live_before is None:
        return None
    if not is_to_settle(evidence.verified_record(), _attempt(evidence)):
        return None
    try:
        with ended_by_a_signal():
            _settle(evidence, environment, run_id, cause, say)
    except KeyboardInterrupt:
        say("rollback: interrupted")
    finally:
        attempts.rewrite_summary(evidence, SystemClock())
    rows = evidence.record().rollback_rows
    return rows[-1] if rows else None


def _settle(
    evidence: Evidence,
    environment: Environment,
    run_id: str,
    cause: str,
    say: Callable[[str], None],
) -> None:
    try:
        plan, control_plane, around = _worked_on(evidence, environment, run_id, say)
    except (SettingError, RolloutMismatchError) as error:
        around = Surroundings(evidence, _attempt(evidence), run_id, Redactor(None), say)
        cannot_roll_back(around, cause, str(error))
    else:
        settle(plan, control_plane, around, cause)


@contextmanager
def ended_by_a_signal() -> Iterator[None]:
    """Let SIGINT and SIGTERM end what the body does at once, whoever else listens to them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def restore(
    evidence: Evidence, environment: Environment, say: Callable[[str], None]
) -> RollbackRow:
    """Roll back a rollout because somebody asks for it, whatever its decision.

    Raises:
        SettingError: When a setting at hand is not accepted.
        RolloutMismatchError: When the settings at hand mean another staging.
        ValueError: When nothing of it is live.
    """
    header = evidence.header()
    run_id = header.run_ids[-1] if header.run_ids else ""
    plan, control_plane, around = _worked_on(evidence, environment, run_id, say)
    attempts.abandon(evidence, "killed, and rolled back by hand", SystemClock())
    try:
        return roll_back(plan, control_plane, around, "somebody asked for it")
    finally:
        attempts.rewrite_summary(evidence, SystemClock())


def _worked_on(
    evidence: Evidence, environment: Environment, run_id: str, say: Callable[[str], None]
) -> tuple[Plan, ControlPlane, Surroundings]:
    variables: Mapping[str, str] = {**os.environ, **recorded_settings(evidence, environment)}
    settings = resolve(environment, variables)
    plan = settled_plan(settings.plan, evidence.header())
    around = Surroundings(evidence, _attempt(evidence), run_id, Redactor(settings.token), say)
    return plan, ControlPlane(plan.endpoints, settings.token, plan.http_timeout_seconds), around


def _attempt(evidence: Evidence) -> int:
    return max(len(evidence.header().attempts), 1)
