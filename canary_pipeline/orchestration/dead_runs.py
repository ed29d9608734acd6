"""Runs that Dagster takes for started although the process that worked on them is gone."""

import os
import platform
from contextlib import suppress
from pathlib import Path

import dagster as dg

from canary_pipeline.model.decision import HEADER, Reason, decide
from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.runs import (
    ROLLOUT_TAG,
    environment_of,
    runs_of,
    tell_decision,
    worked_on,
)
from canary_pipeline.outside.lease import UNKNOWN
from canary_pipeline.outside.process_identity import process_name
from canary_pipeline.reports.notice import NO_DECISION, announce
from canary_pipeline.store.elsewhere import elsewhere
from canary_pipeline.store.folder import Evidence

WORKER_TAG = ".dagster/canary_worker"
"""Which process works on a run; a copied tag names another run, and so says nothing.

It is for this module alone: what begins so, the UI does not show.
"""

UNDER_WAY = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)

MESSAGE = "nobody works on this rollout any more: its process was killed, or its host went down"


def note_worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Note that this process works on a run."""
    instance.add_run_tags(run.run_id, {WORKER_TAG: _worker(run, os.getpid())})


def fail_dead_runs(instance: dg.DagsterInstance, environment: Environment) -> None:
    """End the runs that died: otherwise later ones wait for them for ever.

    On this host that is seen by their processes, of another by the lease that they do not hold any
    more. Dagster's own monitoring does not see them, since its default launcher has no health
    check, and Celery takes a killed worker for busy. Its storage, or the evidence's, may be out of
    reach, which is nobody's concern here.
    """
    with suppress(Exception):
        for run in instance.get_runs(runs_of(environment, statuses=[*UNDER_WAY])):
            of = environment_of(environment, run)
            if of is not None and (_has_died(run) or _has_lost(run, of)):
                now = instance.get_run_by_id(run.run_id)
                if now is not None and now.status in UNDER_WAY:  # not just before it was gone
                    _end(instance, of, now)


def _has_died(run: dg.DagsterRun) -> bool:
    said = run.tags.get(WORKER_TAG, "")
    pid = said.rpartition(" ")[2].partition(".")[0]
    on_this_host = said.startswith(f"{run.run_id} {platform.node()} ") and pid.isdecimal()
    return on_this_host and _worker(run, int(pid)) != said


def _has_lost(run: dg.DagsterRun, environment: Environment) -> bool:
    """Whether a run has left its attempt open, and its environment is another's, or nobody's.

    The lease is asked first: who gives it back has ended the attempt, and published that, before.
    """
    began = run.tags.get(WORKER_TAG, "").startswith(f"{run.run_id} ")
    name = Path(run.tags.get(ROLLOUT_TAG, "")).name
    shared = elsewhere(environment, os.environ) if began and name else None
    if shared is None:
        return False
    holder = shared.holder()
    if holder is not None and holder["run"] in (run.run_id, name, UNKNOWN):
        return False
    folder = shared.bring(name)
    last = Evidence(folder).header().last_attempt if folder else None
    return last is not None and last.run_id == run.run_id and last.outcome is None


def _worker(run: dg.DagsterRun, pid: int) -> str:
    return f"{run.run_id} {platform.node()} {process_name(pid)}"


def _end(instance: dg.DagsterInstance, environment: Environment, run: dg.DagsterRun) -> None:
    evidence = worked_on(run)
    last = evidence.header().last_attempt if evidence else None
    if evidence and last and last.run_id == run.run_id and last.outcome is None:
        decision = decide(evidence.verified_record())
        announce(evidence, NO_DECISION, decision, Reason(MESSAGE, HEADER))
        tell_decision(instance, environment, evidence, decision)
    instance.report_run_failed(run, MESSAGE)
