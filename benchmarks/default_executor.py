"""The definitions of staging, with steps in Dagster's default executor: a new process for each.

As many steps run at once as there are gates. The product's own executor holds the claim and runs
steps as threads; here each step enters the rollout by itself, and nothing is claimed.
"""

import os

import dagster as dg

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration import work
from canary_pipeline.orchestration.resource import RolloutResource
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline.outside.stop import Stop
from canary_pipeline.store.holding import NOTHING


def _work_of_a_step(
    context: dg.OpExecutionContext,
    rollout: Rollout,
    resource: RolloutResource,  # noqa: ARG001
) -> work.Work:
    return work.Work(context.run_id, rollout, Stop(), context.log.info, NOTHING)


def _with_default_executor() -> dg.Definitions:
    product = rollout_definitions(STAGING, os.environ)
    executor = dg.multiprocess_executor.configured({"max_concurrent": len(STAGING.gates)})
    job = dg.define_asset_job(
        STAGING.job_name,
        selection=dg.AssetSelection.groups(STAGING.asset_group),
        executor_def=executor,
    )
    return dg.Definitions(assets=product.assets, jobs=[job], resources=product.resources)


work._begun_here = _work_of_a_step  # noqa: SLF001 - the one place where a step asks who works
defs = _with_default_executor()
"""What Dagster loads, here and in the process of each step."""
