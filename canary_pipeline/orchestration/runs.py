"""Which rollout a Dagster run works on, who launched it, and what Dagster is told of it."""

import getpass
import os
from contextlib import suppress
from pathlib import Path

import dagster as dg

from canary_pipeline.model.decision import Decision
from canary_pipeline.orchestration.command import commanded
from canary_pipeline.orchestration.pages import report_decision
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.layout import DECISION

ROLLOUT_TAG = "canary/rollout"
ENVIRONMENT_TAG = "canary/environment"
DECISION_TAG = "canary/decision"
DIGEST_TAG = "canary/decision-sha256"
LAUNCHED_BY_TAG = "canary/launched-by"
NOTICE_TAG = "canary/notice-sent"


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
        if found is not None or current.step_keys_to_execute is None:
            return found
        parent = current.parent_run_id
        current = instance.get_run_by_id(parent) if parent else None
    return None


def worked_on(run: dg.DagsterRun) -> Evidence | None:
    """The rollout whose folder knows this very run, or None."""
    tag = run.tags.get(ROLLOUT_TAG)
    if not tag:
        return None
    evidence = Evidence(Path(tag))
    try:
        return evidence if run.run_id in evidence.header().run_ids else None
    except NotARolloutError:
        return None


def claim_tags(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Unsay what a run has inherited from the run it re-executes, and say who launched it."""
    tags = {LAUNCHED_BY_TAG: launched_by(run), DECISION_TAG: "none", DIGEST_TAG: "none"}
    instance.add_run_tags(run.run_id, tags)


def tag_rollout(instance: dg.DagsterInstance, run_id: str, evidence: Evidence) -> None:
    """Let people and later runs find the rollout by its run; only once the folder knows the run."""
    tags = {ROLLOUT_TAG: str(evidence.folder), ENVIRONMENT_TAG: evidence.header().environment}
    instance.add_run_tags(run_id, tags)


def decision_tags(evidence: Evidence, decision: Decision) -> dict[str, str]:
    """What a run's tags say of its decision."""
    return {DECISION_TAG: decision.word, DIGEST_TAG: evidence.sha256(DECISION) or "none"}


def tell_decision(
    instance: dg.DagsterInstance,
    run_id: str,
    rollout: Rollout,
    evidence: Evidence,
    decision: Decision,
    *,
    on_page: bool,
) -> None:
    """Tell Dagster of a decision that no step has told it; its storage may be out of reach.

    Args:
        instance: Where the run is recorded.
        run_id: The run.
        rollout: What the definitions were built from.
        evidence: The rollout's folder.
        decision: What was decided.
        on_page: Whether the page of `summary` is to show it.
    """
    with suppress(Exception):
        instance.add_run_tags(run_id, decision_tags(evidence, decision))
        if on_page:
            report_decision(instance, rollout.environment, evidence, decision)


def is_over(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Why a run is over for Dagster although it is under way, or None; its storage may be away."""
    try:
        run = instance.get_run_by_id(run_id)
    except Exception:  # noqa: BLE001 - what cannot be asked is no reason to stop
        return None
    if run is None:
        return "its run was deleted in Dagster"
    if run.status == dg.DagsterRunStatus.CANCELING:
        return "terminated through Dagster"
    return f"its run is {run.status.value} in Dagster" if run.is_finished else None


def by_whom(instance: dg.DagsterInstance, run_id: str, why: str) -> str:
    """Why a run was stopped, Dagster's own word first: it sends signals too."""
    return is_over(instance, run_id) or why


def launched_by(run: dg.DagsterRun) -> str:
    """Who or what launched a run, in words that hold nothing private."""
    user = _user()
    if commanded() is not None:
        return f"canary-rollout, {user}"
    if run.parent_run_id:
        return f"re-execution, {user}"
    if "dagster/schedule_name" in run.tags:
        return f"schedule {run.tags['dagster/schedule_name']}"
    if run.tags.get("dagster/from_ui") == "true":
        return f"Dagster UI, served by {user}"
    return f"Dagster, {user}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
