"""What is rolled out to, as data: staging, or the environments of a file."""

from collections.abc import Mapping
from dataclasses import replace

from canary_pipeline.environment_file import VARIABLE, load
from canary_pipeline.model import environment
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.plan import Gate
from canary_pipeline.settings import SettingError

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

MOST_NAMED = 10
"""Environments that a message names."""


def served(variables: Mapping[str, str]) -> Environment:
    """What Dagster's definitions are of: one environment, or the pipeline that a file holds.

    Raises:
        SettingError: When the file is not accepted.
    """
    if variables.get(DEMO_VARIABLE):
        return DEMO
    file = variables.get(VARIABLE)
    if not file:
        return STAGING
    return load(file, STAGING.default_cohorts, STAGING.default_soak_seconds)


def chosen(name: str | None, variables: Mapping[str, str], source: str) -> Environment:
    """The environment of a name; where none is named, the only one.

    Args:
        name: Its name.
        variables: The environment variables.
        source: Who names it, for people.

    Raises:
        SettingError: When there is none of that name, or none is named of several.
    """
    there = served(variables).rolled_out_to
    if name is None and len(there) == 1:
        return there[0]
    found = next((environment for environment in there if environment.name == name), None)
    if found is None:
        names = [environment.name for environment in there]
        more = ", …" if len(names) > MOST_NAMED else ""
        accepted = (
            f"{', '.join(names[:MOST_NAMED])}{more} ({VARIABLE} names a file of environments)"
        )
        raise SettingError(source, "not given" if name is None else repr(name), accepted)
    return found
