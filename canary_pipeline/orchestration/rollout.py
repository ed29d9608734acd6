"""What the definitions of one rollout are built from."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import dagster as dg

from canary_pipeline.model.environment import Environment
from canary_pipeline.rollout.steps import Steps, steps_of


@dataclass(frozen=True)
class Rollout:
    """One environment's rollouts, as Dagster is told of them.

    Attributes:
        environment: What is rolled out to.
        cohorts: The declared cohorts, which the graph has a step for each.
        soak_seconds: The soak that a launch finds filled in.
        parallel_gates: How many gates run at once.
        changes_staging: Whether rollouts make their cohorts live, and roll back.
        gate_groups: Names of gates that run one after another.
    """

    environment: Environment
    cohorts: tuple[int, ...]
    soak_seconds: int
    parallel_gates: int
    changes_staging: bool = False
    gate_groups: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def steps(self) -> Steps:
        """The steps that the graph is built from."""
        return steps_of(
            self.environment.gates,
            self.cohorts,
            gate_groups=self.gate_groups,
            changes_staging=self.changes_staging,
        )

    def asset_key(self, name: str) -> dg.AssetKey:
        """The key of one of the rollout's assets."""
        return dg.AssetKey([self.environment.asset_group, name])

    def gates_among(self, step_keys: Collection[str]) -> list[str]:
        """The names of the gates whose steps are among these of Dagster's."""
        ops = {key.rpartition(".")[2] for key in step_keys}
        return [gate.name for gate in self.environment.gates if op_name(gate.name) in ops]

    @property
    def owners(self) -> list[str]:
        """Whom Dagster names as owners of job, schedule and assets."""
        return list(self.environment.owners)


def op_name(name: str) -> str:
    """A step's or an environment's name as Dagster accepts it."""
    return name.replace("-", "_").replace(" ", "_")
