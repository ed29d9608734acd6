"""What is rolled out to, as data."""

from dataclasses import dataclass

from canary_pipeline.model.plan import Gate

OUTPUT_ROOT = "output/canary/spacetime"
"""Where rollouts keep their folders, below the current one."""

DEMO = "demo"
"""The name of the environment that promotes nothing."""


@dataclass(frozen=True)
class Environment:
    """What a rollout promotes through. A second environment is a second value of this class.

    Attributes:
        name: A short lower-case word such as `staging`; claim, folders and rows carry it.
        title: The heading of the summary that people promote on.
        gates: The checks that must pass before the first cohort.
        default_cohorts: The percents of users, in order, that a rollout goes through.
        default_soak_seconds: How long a cohort whose probe passed is left alone.
        owners: Who is asked about its rollouts: a mail address, or `team:` and a name.
        pipeline: What job and assets are named for; the environment's own name by default.
        variables: What the names of its variables begin with, such as `OA_STAGING`.
        output_root: Where its rollouts keep their folders, unless told otherwise.
        thread_id: The thread that a cohort's probe asks for; `{percent}` is the cohort.
        cohort_key: The same for the cohort's key.
    """

    name: str
    title: str
    gates: tuple[Gate, ...]
    default_cohorts: tuple[int, ...]
    default_soak_seconds: int
    owners: tuple[str, ...] = ()
    pipeline: str = ""
    variables: str = ""
    output_root: str = OUTPUT_ROOT
    thread_id: str = "staging-canary-thread-{percent}"
    cohort_key: str = "user:staging-canary-{percent}"

    @property
    def job_name(self) -> str:
        """The name of the Dagster job, such as `staging_canary_rollout`."""
        return f"{self.pipeline or self.name}_canary_rollout"

    @property
    def asset_group(self) -> str:
        """The group and key prefix of the assets, such as `staging_canary`."""
        return f"{self.pipeline or self.name}_canary"

    @property
    def variable_stem(self) -> str:
        """What the names of its variables begin with, such as `OA_STAGING`."""
        return self.variables or f"OA_{self.name.upper().replace('-', '_')}"

    @property
    def variable_prefix(self) -> str:
        """What the names of its canary variables begin with, such as `OA_STAGING_CANARY`."""
        return f"{self.variable_stem}_CANARY"
