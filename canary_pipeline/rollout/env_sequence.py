"""`canary-env-sequence.txt`: the variables that make each cohort live."""

from collections.abc import Sequence


def env_sequence_text(cohorts: Sequence[int], soak_seconds: int) -> str:
    """A block of variables for each cohort, in order.

    Both canary percents equal the cohort and the runtime shadow is on, as the rollout's policy
    for every cohort demands.
    """
    return "".join(
        f"# Cohort {percent}%\n"
        f"OA_RUNTIME_CANARY_USER_PERCENT={percent}\n"
        f"OA_RUNTIME_CANARY_AUTOPILOT_PERCENT={percent}\n"
        "OA_RUNTIME_SHADOW_ENABLED=true\n"
        "OA_RUNTIME_SHADOW_SAMPLE_RATE=1.0\n"
        f"OA_STAGING_CANARY_COHORT_SOAK_SECONDS={soak_seconds}\n"
        "\n"
        for percent in cohorts
    )
