"""Which rollout a Dagster run works on, who launched it, and what Dagster is told of it."""

import getpass
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from canary_pipeline.environments import served
from canary_pipeline.model.decision import Decision, decide
from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.command import commanded
from canary_pipeline.orchestration.going_on import goes_on, not_to_inherit
from canary_pipeline.orchestration.pages import report_decision
from canary_pipeline.orchestration.rollout import OPENING
from canary_pipeline.store.elsewhere import elsewhere
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.journal import Journal
from canary_pipeline.store.layout import DECISION, HEADER

ROLLOUT_TAG = "canary/rollout"
ENVIRONMENT_TAG = "canary/environment"
DECISION_TAG = "canary/decision"
DIGEST_TAG = "canary/decision-sha256"
LAUNCHED_BY_TAG = "canary/launched-by"
RETRY_TAG = "dagster/retry_number"
SCHEDULE_TAG = "dagster/schedule_name"


def rollout_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Evidence | None:
    """The rollout that a run works on, or None where it has none yet.

    A run's tag only says where to look: tags are copied to re-executions, and can be written by
    whoever launches a run, so the folder itself must know the run. A re-execution of some steps
    goes on with what its parents worked on, up to the first run of all steps; one of all steps is
    new.
    """
    command = commanded()
    if command is not None and command.folder is not None:
        return Evidence(command.folder)
    current: dg.DagsterRun | None = instance.get_run_by_id(run.run_id) or run
    while current is not None:
        found = worked_on(current)
        if found is not None or _is_of_all_steps(current):
            return found
        parent = current.parent_run_id
        current = instance.get_run_by_id(parent) if parent else None
    return None


def _is_of_all_steps(run: dg.DagsterRun) -> bool:
    """Whether a run begins anew; one from failure may hold every step, since the first failed."""
    if goes_on(run):
        return False
    steps = run.step_keys_to_execute
    return steps is None or any(key.endswith(f"__{OPENING}") for key in steps)


def worked_on(run: dg.DagsterRun) -> Evidence | None:
    """The rollout whose folder knows this very run, or None."""
    tag = run.tags.get(ROLLOUT_TAG)
    if not tag:
        return None
    evidence = Evidence(Path(tag))
    if not evidence.exists(HEADER):
        _bring(evidence.folder, run)
    try:
        return evidence if run.run_id in evidence.header().run_ids else None
    except NotARolloutError:
        return None


def _bring(folder: Path, run: dg.DagsterRun) -> None:
    """Bring here what a run has worked on elsewhere, if it belongs into the usual place."""
    for environment in served(os.environ).rolled_out_to:
        usual = folder.parent == Path(environment.output_root).absolute()
        if usual and environment.name == run.tags.get(ENVIRONMENT_TAG):
            shared = elsewhere(environment, os.environ)
            if shared is not None:
                shared.bring(folder.name)


def unsay_inherited(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Unsay what a run has inherited from the run it re-executes, and say who launched it.

    Until a run begins its tags are its parent's, or whatever somebody has written: nothing here
    believes what a tag says of a decision.
    """
    tags = {LAUNCHED_BY_TAG: launched_by(run), DECISION_TAG: "none", DIGEST_TAG: "none"}
    if run.parent_run_id:
        tags |= {name: "" for name in (ROLLOUT_TAG, SCHEDULE_TAG) if name in run.tags}
        tags |= not_to_inherit(run)
    instance.add_run_tags(run.run_id, tags)


def refuse_retry(run: dg.DagsterRun) -> None:
    """Make sure that a person asks for a rollout to go on.

    Raises:
        dagster.Failure: When it was Dagster itself.
    """
    if int(run.tags.get(RETRY_TAG) or 0):
        message = (
            "Dagster has retried this run by itself, and nothing was done: a rollout that blocks "
            "has not crashed. Once mended, go on with *Re-execute from failure*, or with "
            "canary-rollout resume"
        )
        raise dg.Failure(message, allow_retries=False)


def tag_rollout(instance: dg.DagsterInstance, run_id: str, evidence: Evidence) -> None:
    """Let people and later runs find the rollout by its run; only once the folder knows the run."""
    tags = {ROLLOUT_TAG: str(evidence.folder), ENVIRONMENT_TAG: evidence.header().environment}
    instance.add_run_tags(run_id, tags)


def decision_tags(evidence: Evidence, decision: Decision) -> dict[str, str]:
    """What a run's tags say of its decision."""
    return {DECISION_TAG: decision.word, DIGEST_TAG: evidence.sha256(DECISION) or "none"}


def tell_decision(
    instance: dg.DagsterInstance,
    environment: Environment,
    evidence: Evidence,
    decision: Decision,
    *,
    on_page: bool = True,
) -> None:
    """Tell Dagster of a decision that no step has told it; its storage may be out of reach.

    The page of `summary` speaks of the newest rollout, whatever was decided of an older one.

    Args:
        instance: Where runs and assets are recorded.
        environment: What is rolled out to.
        evidence: The rollout's folder.
        decision: What was decided.
        on_page: Whether the page is to show it.
    """
    with suppress(Exception):
        _tag_decision(instance, evidence, decision)
        newer = Journal(environment.name).newer_than(evidence.folder)
        if newer is not None:
            evidence = Evidence(newer)
            decision = decide(evidence.verified_record())
            _tag_decision(instance, evidence, decision)
        if on_page or newer is not None:
            report_decision(instance, environment, evidence, decision)


def _tag_decision(instance: dg.DagsterInstance, evidence: Evidence, decision: Decision) -> None:
    last = evidence.header().last_attempt
    if last is not None and instance.has_run(last.run_id):
        instance.add_run_tags(last.run_id, decision_tags(evidence, decision))


_OVER = {
    "CANCELING": (dg.DagsterEventType.RUN_CANCELING, "terminated through Dagster"),
    "CANCELED": (dg.DagsterEventType.RUN_CANCELED, "force-terminated in Dagster"),
    "FAILURE": (dg.DagsterEventType.RUN_FAILURE, "marked as failed in Dagster"),
    "SUCCESS": (dg.DagsterEventType.RUN_SUCCESS, "marked as successful in Dagster"),
}
"""By status of a run that is over: the event that says so, and its words."""


def is_over(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Why a run is over for Dagster although it is under way, or None; its storage may be away."""
    try:
        run = instance.get_run_by_id(run_id)
        if run is None:
            return "its run was deleted in Dagster"
        if run.status.value not in _OVER:
            return None
        kind, words = _OVER[run.status.value]
        said = instance.get_records_for_run(run_id, of_type=kind, limit=1, ascending=False).records
    except Exception:  # noqa: BLE001 - what cannot be asked is no reason to stop
        return None
    event = said[0].event_log_entry.dagster_event if said else None
    too_long = event is not None and "maximum runtime" in (event.message or "")
    return "ended by Dagster after its maximum runtime" if too_long else words


def by_whom(instance: dg.DagsterInstance, run_id: str, why: str) -> str:
    """Why a run was stopped, Dagster's own word first: it sends signals too."""
    return is_over(instance, run_id) or why


def runs_of(environment: Environment, **more: Any) -> dg.RunsFilter:
    """What finds the runs of an environment, or of all parts of one, whatever their number.

    Args:
        environment: What is rolled out to.
        more: What else is asked of them.
    """
    if environment.parts:
        return dg.RunsFilter(job_name=environment.job_name, **more)
    return dg.RunsFilter(tags={ENVIRONMENT_TAG: environment.name}, **more)


def environment_of(environment: Environment, run: dg.DagsterRun) -> Environment | None:
    """The one that a run rolls out to: this, or a part of it."""
    name = run.tags.get(ENVIRONMENT_TAG)
    return next((each for each in environment.rolled_out_to if each.name == name), None)


def launched_by(run: dg.DagsterRun) -> str:
    """Who or what launched a run, in words that hold nothing private."""
    user = _user()
    if commanded() is not None:
        return f"canary-rollout, {user}"
    if run.parent_run_id:
        return f"re-execution, {user}"
    if run.tags.get(SCHEDULE_TAG):
        return f"schedule {run.tags[SCHEDULE_TAG]}"
    if run.tags.get("dagster/from_ui") == "true":
        return f"Dagster UI, served by {user}"
    return f"Dagster, {user}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
