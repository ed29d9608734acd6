"""The definitions of one rollout, built from what it rolls out to."""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from canary_pipeline.environment_file import check_shape
from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.cohort_assets import cohort_assets
from canary_pipeline.orchestration.decision_sensor import decision_sensor
from canary_pipeline.orchestration.executor import rollout_executor
from canary_pipeline.orchestration.gate_assets import gate_assets
from canary_pipeline.orchestration.history_asset import history_asset, history_sensor
from canary_pipeline.orchestration.left_live_sensor import left_live_sensor
from canary_pipeline.orchestration.resource import rollout_resource
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import ENVIRONMENT_TAG
from canary_pipeline.orchestration.schedule import rollout_schedules
from canary_pipeline.orchestration.summary_assets import (
    opening_asset,
    promotion_asset,
    summary_asset,
)
from canary_pipeline.settings import SettingValues
from canary_pipeline.sources import DECLARED, declared, read_values


def rollout_definitions(environment: Environment, variables: Mapping[str, str]) -> dg.Definitions:
    """Build job, assets, checks, schedules and sensors of a job's rollouts.

    Args:
        environment: What is rolled out to.
        variables: The environment variables, which declare the cohorts that shape the graph.

    Raises:
        SettingError: When a variable that shapes the definitions is not accepted.
    """
    variables = dict(variables)  # a look-up in os.environ encodes, and there are thousands
    values = declared(environment, variables)
    return definitions_of(declared_rollout(environment, values, variables), values, variables)


def definitions_of(
    rollout: Rollout, values: SettingValues, variables: Mapping[str, str]
) -> dg.Definitions:
    """The same, of a rollout whose shape is known."""
    return dg.Definitions.merge(
        _executable(rollout),
        dg.Definitions(
            assets=[promotion_asset(rollout), history_asset(rollout)],
            schedules=rollout_schedules(rollout, values, variables),
            sensors=[
                decision_sensor(rollout, values, variables),
                left_live_sensor(rollout, values),
                history_sensor(rollout),
            ],
        ),
    )


def rollout_job(rollout: Rollout) -> dg.JobDefinition:
    """The job alone, for a command that executes it: it needs nothing that launches or watches."""
    return _executable(rollout).resolve_job_def(rollout.environment.job_name)


def _executable(rollout: Rollout) -> dg.Definitions:
    # A job's owners are beta in Dagster; a warning at each load helps nobody.
    warnings.filterwarnings("ignore", "Parameter `owners`", dg.BetaWarning)
    environment = rollout.environment
    executor = rollout_executor(rollout)
    job = dg.define_asset_job(
        environment.job_name,
        selection=dg.AssetSelection.groups(environment.asset_group),
        description=_job_description(rollout),
        **_of_run(rollout),
        executor_def=executor,
        owners=rollout.owners,
    )
    return dg.Definitions(
        assets=[
            opening_asset(rollout),
            gate_assets(rollout),
            cohort_assets(rollout),
            summary_asset(rollout),
        ],
        jobs=[job],
        resources={"rollout": rollout_resource(rollout)},
        executor=executor,
    )


def _of_run(rollout: Rollout) -> dict[str, Any]:
    """How a run is tagged with its environment: while it waits in the queue, too."""
    once = {"dagster/max_retries": "0"}  # an outcome is no crash, which an instance may retry
    if rollout.partitions is None:
        return {"tags": {ENVIRONMENT_TAG: rollout.environment.name, **once}}
    tagged = dg.PartitionedConfig(
        rollout.partitions,
        run_config_for_partition_key_fn=lambda _: {},
        tags_for_partition_key_fn=lambda name: {ENVIRONMENT_TAG: name},
    )
    return {"config": tagged, "tags": once}


def declared_rollout(
    environment: Environment, values: SettingValues, variables: Mapping[str, str]
) -> Rollout:
    """What the settings say of the definitions' shape."""
    parts = [read_values(part, variables, names=DECLARED) for part in environment.parts]
    for part, reading in zip(environment.parts, parts, strict=True):
        check_shape(part.name, reading, values)
    every_gate = max(len(environment.gates) + bool(parts), 1)
    return Rollout(
        environment,
        values.cohorts,
        values.soak_seconds,
        parallel_gates=min(values.max_parallel_gates or every_gate, every_gate),
        changes_staging=any(
            each.apply_command for each in (values, *(reading.values for reading in parts))
        ),
        gate_groups=values.gate_groups,
    )


def _job_description(rollout: Rollout) -> str:
    gates = ", ".join(f"`{gate.name}`" for gate in rollout.environment.gates)
    cohorts = ", ".join(map(str, rollout.cohorts))
    return (
        f"Promotes a change through {rollout.environment.name} and decides whether it may go on.\n"
        f"\n1. The gates run side by side: {gates}. If one fails, nothing is promoted."
        f"\n2. Cohort by cohort ({cohorts} % of users) a probe asks the control service whether "
        f"routing still answers, and then the cohort soaks ({rollout.soak_seconds} s). The first "
        "that fails ends the promotion."
        "\n3. The asset `summary` says `allow` or `block`, with every reason and its evidence. A "
        "run is green only if it says `allow`.\n"
        "\nLaunch it with *Materialize all*; behind the arrow beside it, *Open launchpad* lets you "
        "choose the cohorts, the soak, or a dry run. *Terminate* stops it at any moment. After a "
        "crash, or once what blocked is mended, it goes on by *Re-execute from failure*."
    )
