"""Which step of the core each of Dagster's runs, whatever people name their gates."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from canary_pipeline.environments import DEMO, STAGING, served
from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.rollout import PARTITION_TAG, Rollout
from canary_pipeline.orchestration.rollout_definitions import declared_rollout, rollout_job
from canary_pipeline.rollout.steps import Step
from canary_pipeline.sources import declared
from canary_pipeline_tests.orchestration.test_definitions import steps

APPLYING = {"OA_STAGING_CANARY_APPLY_COMMAND": "apply"}
ODD_GATES = (
    "chaos", "space-chaos", "x-summary", "x-rollback", "rollback", "results", "gate-results",
    "cohort-5",
)  # fmt: skip


def rollout_to(environment: Environment) -> Rollout:
    """What the definitions are built from where cohorts are made live."""
    return declared_rollout(environment, declared(environment, APPLYING), APPLYING)


@pytest.fixture
def odd(tmp_path: Path) -> Rollout:
    """Rollouts to environments of a file, whose gates are named nearly as other steps are."""
    file = tmp_path / "envs.toml"
    gates = "\n".join(f"{name} = 'true'" for name in ODD_GATES)
    parts = "[environments.staging-us]\n[environments.staging-eu]\nafter = 'staging-us'\n"
    file.write_text(f"name = 'staging'\n[gates]\n{gates}\n{parts}")
    return rollout_to(served({"OA_CANARY_ENVIRONMENTS": str(file)}))


def steps_of_core(rollout: Rollout) -> Iterator[Step]:
    for phase in rollout.steps.phases:
        for lane in phase:
            yield from lane


@pytest.mark.parametrize("name", ["staging", "demo", "odd"])
def test_each_step_of_dagster_s_runs_one_of_the_core_s(name: str, odd: Rollout) -> None:
    rollout = {"staging": rollout_to(STAGING), "demo": rollout_to(DEMO), "odd": odd}[name]
    keys = steps(rollout_job(rollout))

    run_by = [
        [key for key in keys if rollout.has_step(step, [key])] for step in steps_of_core(rollout)
    ]

    assert sorted(run_by) == sorted([key] for key in keys)
    assert rollout.gates_among(keys) == [gate.name for gate in rollout.gates]


def test_a_run_that_leaves_a_gate_out_has_no_step_for_it_whatever_others_are_named(
    odd: Rollout,
) -> None:
    keys = set(steps(rollout_job(odd)))
    rollout = odd.of(dg.DagsterRun("job", tags={PARTITION_TAG: "staging-eu"}))

    for gate, [step] in zip(rollout.gates, rollout.steps.gates, strict=True):
        left = keys - {f"staging_gates.{gate.step.replace('-', '_')}"}
        others = [other.name for other in rollout.gates if other != gate]

        assert rollout.has_step(step, keys)
        assert not rollout.has_step(step, left)
        assert rollout.gates_among(left) == others
