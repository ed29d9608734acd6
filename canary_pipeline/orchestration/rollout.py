"""What the definitions of one rollout are built from."""

from dataclasses import dataclass

import dagster as dg

from canary_pipeline.model.plan import Environment


@dataclass(frozen=True)
class Rollout:
    """One environment's rollouts, as Dagster is told of them.

    Attributes:
        environment: What is rolled out to.
        cohorts: The declared cohorts, which the graph has a step for each.
        soak_seconds: The soak that a launch finds filled in.
        parallel_gates: How many gates run at once.
        changes_staging: Whether rollouts make their cohorts live, and roll back.
    """

    environment: Environment
    cohorts: tuple[int, ...]
    soak_seconds: int
    parallel_gates: int
    changes_staging: bool = False

    def asset_key(self, name: str) -> dg.AssetKey:
        """The key of one of the rollout's assets."""
        return dg.AssetKey([self.environment.asset_group, name])

    @property
    def owners(self) -> list[str]:
        """Whom Dagster names as owners of job, schedule and assets."""
        return list(self.environment.owners)
