"""What Dagster loads, and that no way of running it ends green without an `allow`."""

import subprocess
import sys
from collections.abc import Mapping
from typing import cast

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.step import ExecutionStep

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline.settings import SettingError
from canary_pipeline_tests.conftest import Checkout, Commands, InProcess, decision
from canary_pipeline_tests.fake_staging import FakeStaging, answer

ASSETS = {
    "canary_env_sequence", "gate_results", "logs", "cohort_results", "runtime_metrics",
    "control_status", "summary",
}  # fmt: skip


def job(variables: Mapping[str, str] | None = None) -> dg.JobDefinition:
    return rollout_definitions(STAGING, variables or {}).resolve_job_def("staging_canary_rollout")


def steps(definition: dg.JobDefinition) -> dict[str, set[str]]:
    """Each step of a job and the steps that it waits for."""
    steps = cast("list[ExecutionStep]", create_execution_plan(definition).steps)
    return {step.key: step.get_execution_dependency_keys() for step in steps}


def test_the_definitions_hold_what_the_contract_names() -> None:
    definitions = rollout_definitions(STAGING, {})
    graph = definitions.resolve_asset_graph()

    found = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert found.pop("staging_canary_history") == "staging_canary_history"
    assert found.pop("staging_canary/promotion") == "staging_canary_promotion"
    assert found == {f"staging_canary/{name}": "staging_canary" for name in ASSETS}
    assert {
        (key.asset_key.path[-1], key.name): graph.get(key).blocking
        for key in graph.asset_check_keys
    } == {
        ("gate_results", "all_gates_passed"): False,
        ("cohort_results", "all_cohorts_passed"): False,
        ("summary", "go_no_go"): True,
    }
    assert definitions.resolve_schedule_def("staging_canary_rollout_schedule")
    assert set(definitions.resources or {}) == {"rollout"}


def test_a_rollout_does_not_tabulate_past_rollouts_itself() -> None:
    assert "staging_canary_history" not in steps(job())


def test_gates_fan_in_to_a_sequence_of_cohorts() -> None:
    found = steps(job())

    gates = {f"staging_gates.{gate.name.replace('-', '_')}" for gate in STAGING.gates}
    assert found["staging_gates.staging_gate_results"] == gates
    assert all(found[gate] == {"staging_canary__canary_env_sequence"} for gate in gates)
    previous = "staging_gates.staging_gate_results"
    for percent in (5, 10, 25, 50, 100):
        assert found[f"staging_cohorts.cohort_{percent}"] == {previous}
        previous = f"staging_cohorts.cohort_{percent}"


def test_the_declared_cohorts_shape_the_graph() -> None:
    found = steps(job({"OA_STAGING_CANARY_COHORTS": "1,2,3"}))

    cohorts = [step for step in found if step.startswith("staging_cohorts.cohort_")]
    assert cohorts == [f"staging_cohorts.cohort_{percent}" for percent in (1, 2, 3)]


def test_no_output_may_be_left_out() -> None:
    # A step whose output is optional and missing would skip the summary in a green run.
    for node in job().graph.iterate_node_defs():
        assert all(output.is_required for output in node.output_defs), node.name


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OA_STAGING_CANARY_COHORTS", "5,5"),
        ("OA_STAGING_CANARY_COHORT_SOAK_SECONDS", "soon"),
        ("OA_STAGING_CANARY_CRON", "at dawn"),
        ("OA_STAGING_CANARY_CRON", "61 * * * *"),
        ("OA_STAGING_CANARY_TIMEZONE", "Europe"),
        ("OA_STAGING_CANARY_TIMEZONE", "../UTC"),
    ],
)
def test_a_bad_declaration_keeps_the_location_from_loading(variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=variable):
        rollout_definitions(STAGING, {variable: value})


@pytest.mark.slow
def test_the_package_is_the_code_location(commands: Commands) -> None:
    result = commands.run("dagster", "definitions", "validate", "-m", "canary_pipeline")

    assert result.code == 0, result.err


def test_importing_the_package_does_not_import_dagster() -> None:
    check = "import sys, canary_pipeline; sys.exit('dagster' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_checks_say_why(in_process: InProcess, staging: FakeStaging) -> None:
    staging.probes[5] = answer(500, {})

    assert not in_process.job({"cohorts": [5]})

    with dg.DagsterInstance.get() as instance:
        [run] = instance.get_runs()
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    checks = {}
    for event in events:
        assert event.dagster_event
        evaluation = event.dagster_event.asset_check_evaluation_data
        checks[evaluation.check_name] = (evaluation.passed, evaluation.description)
    assert checks["all_gates_passed"][0] is True
    assert checks["all_cohorts_passed"] == (False, "5 % failed (probe answered 500).")
    assert checks["go_no_go"] == (False, "block: cohort 5 % failed: probe answered 500.")
    assert run.tags["canary/decision"] == "block"
    assert run.tags["canary/environment"] == "staging"


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ["canary_env_sequence"],
        ["gate_results", "logs"],
        ["cohort_results", "runtime_metrics", "control_status"],
        ["summary"],
    ],
    ids=lambda names: names[0],
)
def test_a_part_of_the_assets_is_no_green_run(names: list[str], commands: Commands) -> None:
    selection = " or ".join(f'key:"staging_canary/{name}"' for name in names)

    result = commands.run(
        "dagster", "asset", "materialize", "-m", "canary_pipeline", "--select", selection
    )

    assert result.code == 1
    assert "a rollout is all of its assets" in result.err
    assert commands.folders == []


@pytest.mark.slow
def test_all_assets_materialized_together_are_a_rollout(commands: Commands) -> None:
    result = commands.run(
        "dagster", "asset", "materialize", "-m", "canary_pipeline",
        "--select", "group:staging_canary",
        more={"OA_STAGING_CANARY_COHORTS": "5"},
    )  # fmt: skip

    assert result.code == 0, result.err[-2000:]
    [folder] = commands.folders
    assert decision(folder) == "Decision: allow"


@pytest.mark.slow
def test_a_step_that_crashes_is_a_red_run_with_a_written_block(
    commands: Commands, checkout: Checkout
) -> None:
    # The evidence of the cohorts becomes a folder: the next row cannot be written.
    trick = 'mkdir -p "$(ls -d "$ROLLOUTS"/staging-*)/cohort-results.jsonl"'
    checkout.gate("sync-security", trick)
    rollouts = commands.folder / "output/canary/spacetime"

    result = commands.dagster_rollout("--cohorts", "5", more={"ROLLOUTS": str(rollouts)})

    assert result.code == 1
    [folder] = commands.folders
    assert decision(folder) == "Decision: block"
    assert (
        "attempt 1 crashed: step staging_cohorts.cohort_5 failed (IsADirectoryError)"
        in (folder / "SUMMARY.md").read_text()
    )


def test_a_first_step_that_fails_once_its_folder_is_opened_leaves_a_written_block(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room for a tag")

    monkeypatch.setattr("canary_pipeline.orchestration.work.tag_rollout", fail)

    assert not in_process.job({"cohorts": [5]})

    [folder] = in_process.commands.folders
    assert decision(folder) == "Decision: block"
    assert "attempt 1 crashed: a step failed" in (folder / "SUMMARY.md").read_text()


def test_a_forged_tag_does_not_lead_into_another_folder(
    in_process: InProcess,
) -> None:
    assert in_process.job({"cohorts": [5]})
    [folder] = in_process.commands.folders
    before = (folder / "rollout.json").read_text()

    definition = job(
        {"OA_STAGING_CANARY_COHORTS": "5", "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "0"}
    )
    with dg.DagsterInstance.get() as instance:
        result = definition.execute_in_process(
            instance=instance, tags={"canary/rollout": str(folder)}, raise_on_error=False
        )

    assert result.success
    assert (folder / "rollout.json").read_text() == before
    assert len(in_process.commands.folders) == 2
