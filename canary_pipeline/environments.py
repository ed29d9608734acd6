"""Staging: the one environment that is rolled out to, as data."""

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

ENVIRONMENTS = {STAGING.name: STAGING}


def environment_named(name: str) -> Environment:
    """The environment of a name.

    Raises:
        KeyError: When there is none.
    """
    return ENVIRONMENTS[name]
