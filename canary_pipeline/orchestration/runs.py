"""Which rollout a Dagster run works on, and who launched it."""

import getpass
import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from canary_pipeline.model.decision import Decision, decide
from canary_pipeline.model.plan import Environment
from canary_pipeline.model.rows import AttemptOutcome
from canary_pipeline.orchestration.decision_page import report_decision
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.attempts import FOLDER_VARIABLE
from canary_pipeline.rollout.restoring import settle_stopped
from canary_pipeline.store.folder import SUMMARY, Evidence, NotARolloutError

ROLLOUT_TAG = "canary/rollout"
ENVIRONMENT_TAG = "canary/environment"
DECISION_TAG = "canary/decision"
LAUNCHED_BY_TAG = "canary/launched-by"
NOTICE_TAG = "canary/notice-sent"


def rollout_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Evidence | None:
    """The rollout that a run works on, or None where it has none yet.

    The run's tag only says where to look: tags can be written by whoever launches a run, so the
    folder itself must know the run, or the run that this one goes on from. A re-execution of
    all steps is a new rollout.
    """
    commanded = os.environ.get(FOLDER_VARIABLE)
    if commanded:
        return Evidence(Path(commanded))
    current = instance.get_run_by_id(run.run_id) or run
    tag = current.tags.get(ROLLOUT_TAG)
    if not tag:
        return None
    evidence = Evidence(Path(tag))
    try:
        known = evidence.header().run_ids
    except NotARolloutError:
        return None
    goes_on = run.step_keys_to_execute is not None and run.root_run_id in known
    return evidence if run.run_id in known or goes_on else None


def conclude(
    environment: Environment,
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    outcome: AttemptOutcome,
    detail: str,
    *,
    say: Callable[[str], None],
) -> str | None:
    """See to everything that the steps of a run that ends have not seen to.

    The decision is written first, because a rollback may take minutes.

    Args:
        environment: What is rolled out to.
        instance: Where the run is recorded.
        run: The run that ends.
        outcome: What to record if its summary step was not reached.
        detail: What ended it, free of secrets.
        say: Takes lines for the log book.

    Returns:
        What is decided, or None where the run has no rollout or no decision.
    """
    evidence = rollout_of(instance, run)
    if evidence is None:
        return None
    ours = [attempt for attempt in evidence.header().attempts if attempt.run_id == run.run_id]
    decided: Decision | None = None
    if ours and (ours[-1].outcome is None or outcome == "aborted"):
        where = _where(evidence)
        decided = attempts.end(evidence, run.run_id, outcome, f"{detail}{where}", SystemClock())
        report_decision(instance, environment, evidence, decided)
    decision = attempts.written_decision(evidence)
    instance.add_run_tags(run.run_id, {DECISION_TAG: decision or "none"})
    if ours and settle_stopped(evidence, environment, run.run_id, detail, say) is not None:
        report_decision(instance, environment, evidence, decide(evidence.verified_record()))
    if decision != "allow":
        # Dagster's own last words on a red run are a stack trace; these are the reader's.
        say(f"decision: {decision or 'none'}; {evidence.folder / SUMMARY}")
    return decision


def _where(evidence: Evidence) -> str:
    steps = [f"{state.step} ({state.phase})" for state in evidence.all_in_flight()]
    return f", at {', '.join(steps)}" if steps else ", between two steps"


def launched_by(run: dg.DagsterRun) -> str:
    """Who or what launched a run, in words that hold nothing private."""
    user = _user()
    if "dagster/schedule_name" in run.tags:
        return f"schedule {run.tags['dagster/schedule_name']}"
    if os.environ.get(FOLDER_VARIABLE):
        return f"canary-rollout, {user}"
    if run.tags.get("dagster/from_ui") == "true":
        return f"Dagster UI, served by {user}"
    return f"Dagster, {user}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
