"""Staging: the one environment that is rolled out to, as data."""

from collections.abc import Mapping
from dataclasses import replace

from canary_pipeline.model import environment
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.plan import Gate

STAGING = Environment(
    name="staging",
    title="Staging Spacetime Canary Rollout Summary",
    gates=(
        Gate("spacetime-provision-staging", "scripts/spacetime/provision-check.sh staging"),
        Gate("spacetime-replay-resume", "scripts/local-ci.sh spacetime-replay-resume"),
        Gate("spacetime-chaos", "scripts/local-ci.sh spacetime-chaos"),
        Gate("sync-security", "scripts/local-ci.sh sync-security"),
    ),
    default_cohorts=(5, 10, 25, 50, 100),
    default_soak_seconds=900,
    owners=("team:release-engineering",),
)

DEMO = replace(
    STAGING,
    name=environment.DEMO,
    title="Demo of a Staging Canary Rollout",
    pipeline=STAGING.name,
    variables=STAGING.variable_stem,
    output_root="output/demo",
)
"""The local stand-in: a rollout to it promotes nothing, and stands nowhere among real ones."""

DEMO_VARIABLE = "CANARY_PIPELINE_DEMO"
"""Set for the Dagster UI that has the stand-in behind it."""

ENVIRONMENTS = {environment.name: environment for environment in (STAGING, DEMO)}


def served(variables: Mapping[str, str]) -> Environment:
    """The environment that Dagster's definitions are of."""
    return DEMO if variables.get(DEMO_VARIABLE) else STAGING


def environment_named(name: str) -> Environment:
    """The environment of a name.

    Raises:
        KeyError: When there is none.
    """
    return ENVIRONMENTS[name]
