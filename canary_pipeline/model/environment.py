"""What is rolled out to, as data."""

from collections.abc import Mapping
from dataclasses import dataclass

from canary_pipeline.model.plan import Gate

OUTPUT_ROOT = "output/canary/spacetime"
"""Where rollouts keep their folders, below the current one."""

DEMO = "demo"
"""The name of the environment that promotes nothing."""


@dataclass(frozen=True)
class FromFile:
    """What a table of a file says.

    Attributes:
        where: The file and the table, such as `canary.toml: environments.staging-eu.`; a key that
            follows completes it.
        values: Text, whole numbers, booleans, or lists of these, by setting name.
    """

    where: str
    values: Mapping[str, object]


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
        files: The tables of a file that hold its settings; the first one wins.
        command_variables: What gates and commands find in their environment, name by name.
        parts: The environments that share its job, as partitions; empty for one that is rolled
            out to itself.
        partition: Its name, where it is such a part.
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
    files: tuple[FromFile, ...] = ()
    command_variables: tuple[tuple[str, str], ...] = ()
    parts: tuple["Environment", ...] = ()
    partition: str | None = None

    @property
    def rolled_out_to(self) -> tuple["Environment", ...]:
        """Its parts, or itself where it has none."""
        return self.parts or (self,)

    @property
    def job_name(self) -> str:
        """The name of the Dagster job, such as `staging_canary_rollout`."""
        return f"{self.asset_group}_rollout"

    @property
    def schedule_name(self) -> str:
        """The name of its schedule, such as `staging_eu_canary_rollout_schedule`."""
        name = self.partition or self.pipeline or self.name
        return f"{name.replace('-', '_')}_canary_rollout_schedule"

    @property
    def asset_group(self) -> str:
        """The group and key prefix of the assets, such as `staging_canary`."""
        return f"{(self.pipeline or self.name).replace('-', '_')}_canary"

    @property
    def variable_stem(self) -> str:
        """What the names of its variables begin with, such as `OA_STAGING`."""
        return self.variables or f"OA_{self.name.upper().replace('-', '_')}"

    @property
    def variable_prefix(self) -> str:
        """What the names of its canary variables begin with, such as `OA_STAGING_CANARY`."""
        return f"{self.variable_stem}_CANARY"
