"""The definitions of staging, with steps in Dagster's default executor: a new process for each.

The rollout's own executor still wraps it, so that all else is equal. As many steps run at once as
there are gates, for the same reason.
"""

import os

import dagster as dg

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.executor import RolloutExecutor
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.rollout_definitions import (
    declared_rollout,
    rollout_definitions,
)


def _executor(rollout: Rollout) -> dg.ExecutorDefinition:
    create = dg.multiprocess_executor.executor_creation_fn
    if create is None:
        raise TypeError("dagster's multiprocess executor cannot be created")

    @dg.executor(
        name="default", config_schema={}, requirements=dg.multiple_process_executor_requirements()
    )
    def executor(context: dg.InitExecutorContext) -> dg.Executor:
        config = {"max_concurrent": len(rollout.environment.gates), "retries": {"disabled": {}}}
        return RolloutExecutor(rollout, create(context._replace(executor_config=config)))

    return executor


def _with_default_executor() -> dg.Definitions:
    product = rollout_definitions(STAGING, os.environ)
    rollout = declared_rollout(STAGING, os.environ)
    job = dg.define_asset_job(
        STAGING.job_name,
        selection=dg.AssetSelection.groups(STAGING.asset_group),
        executor_def=_executor(rollout),
    )
    return dg.Definitions(assets=product.assets, jobs=[job], resources=product.resources)


defs = _with_default_executor()
