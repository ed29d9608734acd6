"""What the definitions of one rollout are built from."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import dagster as dg

from canary_pipeline.model.environment import Environment
from canary_pipeline.model.plan import AFTER, Gate
from canary_pipeline.rollout.steps import Step, Steps, steps_of
from canary_pipeline.sources import declared

OPENING = "canary_env_sequence"
"""The asset whose step opens a rollout's folder."""

PARTITION_TAG = "dagster/partition"

_AFTER_ANOTHER = Gate(f"{AFTER}another", "the newest decision of the environment that comes before")


@dataclass(frozen=True)
class Rollout:
    """Rollouts as Dagster is told of them: of one environment, or of those that share a job.

    Attributes:
        environment: What is rolled out to. Where it has parts, each run rolls out to one of them.
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
            self.gates,
            self.cohorts,
            gate_groups=self.gate_groups,
            changes_staging=self.changes_staging,
        )

    @cached_property
    def gates(self) -> tuple[Gate, ...]:
        """The gates that the graph has a step for each: one for all that come after another."""
        waits = any(gate.after for part in self.environment.parts for gate in part.gates)
        return (*self.environment.gates, *([_AFTER_ANOTHER] if waits else []))

    @cached_property
    def partitions(self) -> dg.StaticPartitionsDefinition | None:
        """A partition for each environment; None where there is only one that has no parts."""
        names = [part.name for part in self.environment.parts]
        return dg.StaticPartitionsDefinition(names) if names else None

    def of(self, run: dg.DagsterRun) -> "Rollout":
        """The same, of the environment that a run rolls out to.

        Raises:
            dagster.Failure: When the run is not of one partition.
        """
        if not self.environment.parts:
            return self
        name = run.tags.get(PARTITION_TAG)
        part = next((part for part in self.environment.parts if part.name == name), None)
        if part is None:
            message = f"the run is of {name or 'no partition'}: launch it for one environment"
            raise dg.Failure(message, allow_retries=False)
        most = declared(part, os.environ).max_parallel_gates or self.parallel_gates
        return replace(self, environment=part, parallel_gates=min(most, self.parallel_gates))

    def asset_key(self, name: str) -> dg.AssetKey:
        """The key of one of the rollout's assets."""
        return dg.AssetKey([self.environment.asset_group, name])

    def gates_among(self, step_keys: Collection[str]) -> list[str]:
        """The names of the gates whose steps are among these of Dagster's."""
        return [gate.name for gate in self.gates if self._gate_key(gate) in step_keys]

    def has_step(self, step: Step, keys: Collection[str]) -> bool:
        """Whether a step of the core has one of Dagster's among these."""
        return self._keys[step] in keys

    @cached_property
    def _keys(self) -> dict[Step, str]:
        """By step of the core, the key of Dagster's.

        Gates are named freely, such as `x-summary`: no part of a key says what runs.
        """
        steps, graph = self.steps, self._graph
        gates = {f"gate {gate.name}": self._gate_key(gate) for gate in self.gates}
        return {
            steps.opening: self.asset_key(OPENING).to_python_identifier(),
            **{step: gates[step.name] for lane in steps.gates for step in lane},
            steps.gathering: f"{graph}_gates.{graph}_gate_results",
            **{
                step: f"{graph}_cohorts.{op_name(step.name)}"
                for step in (*steps.cohorts, *steps.restoring)
            },
            steps.closing: f"{graph}_cohorts.{graph}_cohort_results",
            steps.deciding: self.asset_key("summary").to_python_identifier(),
        }

    def _gate_key(self, gate: Gate) -> str:
        return f"{self._graph}_gates.{op_name(gate.step)}"

    @property
    def _graph(self) -> str:
        """What the graph's names begin with: those of a part's rollouts as the whole's."""
        environment = self.environment
        return op_name(environment.pipeline if environment.partition else environment.name)

    @property
    def owners(self) -> list[str]:
        """Whom Dagster names as owners of job, schedule and assets."""
        return list(self.environment.owners)


def op_name(name: str) -> str:
    """A step's or an environment's name as Dagster accepts it."""
    return name.replace("-", "_").replace(" ", "_")
