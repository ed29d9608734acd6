"""The variables that make each cohort live, and `canary-env-sequence.txt`, which lists them."""

from collections.abc import Mapping

from canary_pipeline.model.plan import Plan
from canary_pipeline.model.rows import Routing


def cohort_routing(percent: int) -> Routing:
    """What is to be live at a cohort.

    Both canary percents equal the cohort and the runtime shadow is on, as the rollout's policy
    for every cohort demands.
    """
    return Routing(
        user_percent=percent,
        autopilot_percent=percent,
        shadow_enabled=True,
        shadow_sample_rate=1.0,
    )


def variables_of(routing: Routing) -> dict[str, str]:
    """The variables that make a routing live."""
    return {
        "OA_RUNTIME_CANARY_USER_PERCENT": str(routing.user_percent),
        "OA_RUNTIME_CANARY_AUTOPILOT_PERCENT": str(routing.autopilot_percent),
        "OA_RUNTIME_SHADOW_ENABLED": "true" if routing.shadow_enabled else "false",
        "OA_RUNTIME_SHADOW_SAMPLE_RATE": str(routing.shadow_sample_rate),
    }


def env_file_text(variables: Mapping[str, str]) -> str:
    """Variables as the lines of an env file."""
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def env_sequence_text(plan: Plan) -> str:
    """A block of variables for each cohort, in order."""
    return "".join(
        f"# Cohort {percent}%\n"
        f"{env_file_text(variables_of(cohort_routing(percent)))}"
        f"{plan.variable_prefix}_COHORT_SOAK_SECONDS={plan.soak_seconds}\n"
        "\n"
        for percent in plan.cohorts
    )
