"""`canary-rollout rollback`: make live again what was live before a rollout."""

import os
import sys

import click

from canary_pipeline.commands.dagster_home import tell_dagster
from canary_pipeline.commands.exits import Exit, answers, exit_of_rollback
from canary_pipeline.commands.find import find_rollout
from canary_pipeline.commands.flags import (
    SECRETS,
    adopt,
    environment_flag,
    environment_of,
    settings_flags,
)
from canary_pipeline.commands.run import holding, notify, worked_in
from canary_pipeline.model.decision import ROLLBACKS, Decision, Reason
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.rows import RollbackRow
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.durable import in_words
from canary_pipeline.planning import Settings, resolve
from canary_pipeline.reports.notice import announce
from canary_pipeline.reports.rollback_words import rollback_words
from canary_pipeline.rollout.attempts import MENDABLE
from canary_pipeline.rollout.conclusion import end_attempt, rewrite_decision
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.enter import working_on
from canary_pipeline.rollout.live.rollback import not_raised, roll_back
from canary_pipeline.rollout.live.unrecorded import UnrecordedError, restore_unrecorded
from canary_pipeline.rollout.superseded import refuse_superseded
from canary_pipeline.sources import RESTORING
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.holding import owed_in
from canary_pipeline.store.layout import SUMMARY


def take_back(
    evidence: Evidence,
    settings: Settings,
    environment: Environment,
    *,
    may_raise: bool,
    superseded: bool = False,
) -> Exit:
    """Restore what was live before a rollout, because somebody asks for it.

    Args:
        evidence: The rollout's folder.
        settings: The settings at hand.
        environment: What was rolled out to.
        may_raise: Whether a percent that somebody has lowered since may be raised again, also one
            that an earlier rollback has left alone.
        superseded: Whether to do so although a newer rollout speaks for the environment.
    """
    with holding(settings, environment, "canary-rollout rollback") as (held, signals):
        evidence = worked_in(evidence, held)
        left_alone = not_raised(evidence.record()) if may_raise else None
        if evidence.header().live_before is None and left_alone is None:
            print("nothing of this rollout is live: there is nothing to roll back")
            return exit_of_rollback("passed")
        owed = owed_in(environment.name, held)
        if not superseded and (owed is None or owed.folder != evidence.folder):
            refuse_superseded(evidence, environment.name, "rollback")
        context = working_on(
            evidence,
            settings,
            lambda line: print(line, flush=True),
            signals.check_again,
            applies=False,  # whatever would apply a cohort now, this one is taken back
        )
        try:
            row, decision = _taken_back(context, environment, may_raise=may_raise)
        except OSError as error:
            told = f"{in_words(error)}; {restore_unrecorded(context)}"
            raise UnrecordedError(told) from error
        how = "rolled back" if row.status == "passed" else "not rolled back"
        announce(evidence, how, decision, Reason(f"{how} by hand", ROLLBACKS))
    notify(settings, environment)
    if row.status != "passed":
        print(rollback_words(evidence.record(), evidence.folder))
    print(f"summary: {evidence.folder / SUMMARY}")
    return exit_of_rollback(row.status)


def _taken_back(
    context: Context, environment: Environment, *, may_raise: bool
) -> tuple[RollbackRow, Decision]:
    evidence, clock = context.evidence, SystemClock()
    last = evidence.header().last_attempt
    if last is not None and last.outcome is None:
        end_attempt(evidence, last.run_id, "aborted", "killed, and rolled back by hand", clock)
    try:
        row = roll_back(context, "somebody asked for it", may_raise=may_raise)
    finally:
        decision = rewrite_decision(context)
        tell_dagster(environment, evidence, decision)
    return row, decision


@click.command()
@click.argument("rollout", metavar="FOLDER|NAME|RUN_ID")
@click.option("--raise", "may_raise", is_flag=True, help="Even above what is live now.")
@click.option("--superseded", is_flag=True, help="Although a newer rollout has begun.")
@environment_flag
@settings_flags(*SECRETS, *MENDABLE)
def rollback_command(
    rollout: str,
    *,
    may_raise: bool,
    superseded: bool,
    environment: str | None,
    **flags: str | None,
) -> None:
    """Make live again what was live before a rollout that was killed, held or blocked."""
    with answers():
        evidence = find_rollout(rollout)
        evidence.header()
        there = environment_of(environment, evidence)
        settings = resolve(there, os.environ, flags, names=RESTORING)
        adopt(flags, there)
        code = take_back(evidence, settings, there, may_raise=may_raise, superseded=superseded)
        sys.exit(code)
