"""Executes a rollout's job in this process, for the commands."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import dagster as dg

from canary_pipeline.environments import served
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.plan import Plan
from canary_pipeline.orchestration.command import Command, commanding
from canary_pipeline.orchestration.rollout import PARTITION_TAG, Rollout
from canary_pipeline.orchestration.rollout_definitions import rollout_job
from canary_pipeline.orchestration.runs import ENVIRONMENT_TAG, ROLLOUT_TAG, worked_on
from canary_pipeline.orchestration.storage import StorageFailedError, storage_told
from canary_pipeline.store.folder import Evidence


def execute(
    evidence: Evidence, environment: Environment, command: Command, parallel_gates: int
) -> bool:
    """Execute the job of a rollout; returns whether its run is green.

    Args:
        evidence: The rollout's folder.
        environment: What is rolled out to.
        command: What this process hands to the run.
        parallel_gates: How many gates run at once.

    Raises:
        StorageFailedError: When Dagster cannot keep its history.
    """
    plan = evidence.header().plan
    job_of.cache_clear()  # variables shape it, too
    job = dg.build_reconstructable_job(
        __name__,
        "job_of",
        (plan.model_dump_json(), parallel_gates),  # type: ignore[arg-type]
    )
    with _quiet(), storage_told(), dg.DagsterInstance.get() as instance, commanding(command):
        result = dg.execute_job(
            job,
            instance,
            run_config=_run_config(plan),
            tags={
                ROLLOUT_TAG: str(evidence.folder),
                ENVIRONMENT_TAG: environment.name,
                **({PARTITION_TAG: environment.name} if environment.partition else {}),
            },
        )
    return result.success


@cache
def job_of(plan: str, parallel_gates: int) -> dg.JobDefinition:
    """The job of a rollout that is planned already; Dagster asks for it more than once.

    Args:
        plan: The plan, as JSON.
        parallel_gates: How many gates run at once.
    """
    planned, found = Plan.model_validate_json(plan), served(os.environ)
    rollout = Rollout(
        found,
        planned.cohorts,
        planned.soak_seconds,
        parallel_gates,
        planned.changes_staging,
        planned.gate_groups,
    )
    return rollout_job(rollout)


def _run_config(plan: Plan) -> dict[str, object]:
    return {
        "resources": {"rollout": {"config": {"skip_gates": plan.skip_gates}}},
        # The terminal belongs to the progress; the log is in Dagster.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dagster prints on stderr to itself, unless something breaks that nobody foresaw.

    Everything in it is in Dagster's event log too; a terminal is for the progress.
    """
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(sys.stderr.fileno())
        os.dup2(kept.fileno(), sys.stderr.fileno())
        try:
            yield
        except StorageFailedError:
            raise
        except Exception:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, sys.stderr.fileno())
            os.close(stderr)


def rollout_of_run(run_id: str) -> Evidence | None:
    """The rollout that a run of Dagster's worked on, or None where there is none."""
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
    return worked_on(run) if run is not None else None
