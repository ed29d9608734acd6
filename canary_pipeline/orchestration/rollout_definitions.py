"""The definitions of one rollout, built from what it rolls out to."""

from collections.abc import Mapping

import dagster as dg

from canary_pipeline.orchestration.cohort_assets import cohort_assets
from canary_pipeline.orchestration.executor import rollout_executor
from canary_pipeline.orchestration.gate_assets import gate_assets
from canary_pipeline.orchestration.resource import rollout_resource
from canary_pipeline.orchestration.runs import ENVIRONMENT_TAG
from canary_pipeline.orchestration.schedule import rollout_schedule
from canary_pipeline.orchestration.step import Rollout
from canary_pipeline.orchestration.summary_assets import opening_asset, summary_asset
from canary_pipeline.rollout.plan import Environment
from canary_pipeline.settings import declared_cohorts, declared_soak_seconds


def rollout_definitions(environment: Environment, variables: Mapping[str, str]) -> dg.Definitions:
    """Build job, assets, checks and schedule of one environment's rollouts.

    Args:
        environment: What is rolled out to.
        variables: The environment variables, which declare the cohorts that shape the graph.

    Raises:
        SettingError: When a variable that shapes the definitions is not accepted.
    """
    rollout = Rollout(
        environment,
        declared_cohorts(environment, variables),
        declared_soak_seconds(environment, variables),
    )
    executor = rollout_executor(rollout)
    job = dg.define_asset_job(
        environment.job_name,
        selection=dg.AssetSelection.groups(environment.asset_group),
        description=f"Gates, then cohorts with soaks, then a go or no-go for {environment.name}.",
        tags={ENVIRONMENT_TAG: environment.name},
        executor_def=executor,
    )
    return dg.Definitions(
        assets=[
            opening_asset(rollout),
            gate_assets(rollout),
            cohort_assets(rollout),
            summary_asset(rollout),
        ],
        jobs=[job],
        schedules=[rollout_schedule(rollout)],
        resources={"rollout": rollout_resource(rollout.cohorts, rollout.soak_seconds)},
        executor=executor,
    )
