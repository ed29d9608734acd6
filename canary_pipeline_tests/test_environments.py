"""A file of environments: one pipeline, whose environments are the partitions of its job."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from canary_pipeline.environments import STAGING, chosen, served
from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline.planning import LaunchConfig, resolve
from canary_pipeline.settings import SettingError
from canary_pipeline.store.outbox import Item, Outbox
from canary_pipeline_tests.conftest import (
    CORE,
    TOKEN,
    Commands,
    cohort_rows,
    decision,
    gate_rows,
)
from canary_pipeline_tests.fake_staging import FakeStaging, answer
from canary_pipeline_tests.orchestration.test_decision_sensor import Receiver, receiver

__all__ = ["receiver"]

README = (Path(__file__).parent.parent / "README.md").read_text()

HEAD = """
name = "staging"
cohorts = [5, 10]
soak_seconds = 0
[gates]
sync-security = "scripts/local-ci.sh sync-security; echo region $REGION"
"""
EU = """
[environments.staging-eu]
soak_seconds = 1
cohorts = [10]
probe = { thread_id = "eu-{percent}", cohort_key = "user:eu-{percent}" }
variables = { REGION = "eu" }
cron = "0 6 * * 1-5"
after = "staging-us"
"""
US = "[environments.staging-us]\n"


def loaded(folder: Path, text: str) -> Environment:
    file = folder / "envs.toml"
    file.write_text(text)
    return served({"OA_CANARY_ENVIRONMENTS": str(file)})


def definitions(whole: Environment, variables: dict[str, str] | None = None) -> dg.Definitions:
    return rollout_definitions(whole, variables or {})


# -- what is refused --------------------------------------------------------------------------

NAME = (
    "lower-case letters and digits, up to 60, with single dashes between, such as staging-eu; not "
    "demo, not canary"
)
GATE = (
    "lower-case letters and digits with single dashes between, such as sync-security; not all, not "
    "after, nothing that begins with after-"
)
PROBE = "a table of thread_id and cohort_key, each text without blanks that holds {percent} once"
ANOTHER = "another environment of this file that does not come after this one"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gates]\ng = 'x'\n[environments.a]", f"name is not set; accepted: {NAME}"),
        (HEAD + "[environments.A_b]", f"environments.A_b is 'A_b'; accepted: {NAME}"),
        (HEAD + "[environments.demo]", f"environments.demo is 'demo'; accepted: {NAME}"),
        (HEAD, "environments is not set; accepted: a table of at least one environment"),
        ("name = 's'\ngates = {}\n" + US, "gates is empty; accepted: a table of at least one gate"),
        (HEAD + "all = 'x'\n" + US, f"gates.all is 'all'; accepted: {GATE}"),
        (HEAD + "after-x = 'x'\n" + US, f"gates.after-x is 'after-x'; accepted: {GATE}"),
        (
            HEAD + "lint = 5\n" + US,
            "gates.lint is 5; accepted: a shell command without control characters",
        ),
        ("environments.a = 3\n" + HEAD, "environments.a is 3; accepted: a table"),
        ("chorts = 5\n" + HEAD + US, "chorts is not a setting; accepted: cohorts, for one"),
        (
            HEAD + US + "cron = 'at dawn'",
            "environments.staging-us.cron is 'at dawn'; accepted: a cron schedule such as "
            "'0 6 * * 1-5'",
        ),
        (
            HEAD + US + "cohorts = [10, 50]",
            "environments.staging-us.cohorts is 10,50; accepted: some of the pipeline's cohorts "
            "5,10",
        ),
        (
            HEAD + US + "control_base_url = 'http://user:secret@'",
            "environments.staging-us.control_base_url is not a URL that can be used (value not "
            "shown); accepted: an http or https URL with a host and without a fragment (#…)",
        ),
        (
            HEAD + US + "probe = { thread_id = '{percent}' }",
            f"environments.staging-us.probe.cohort_key is not set; accepted: {PROBE}",
        ),
        (
            HEAD + US + "probe = { thread_id = '{x}', cohort_key = '{percent}' }",
            f"environments.staging-us.probe.thread_id is '{{x}}'; accepted: {PROBE}",
        ),
        (
            HEAD + US + "variables = { A = 5 }",
            "environments.staging-us.variables.A is not usable (value not shown); accepted: a "
            "table of texts by the names of variables",
        ),
        (
            HEAD + US + "variables = { OA_STAGING_US_REPO_ROOT = '/' }",
            "environments.staging-us.variables.OA_STAGING_US_REPO_ROOT is not shown; accepted: "
            "none that begins like a setting's; settings are keys of the environment",
        ),
        (
            HEAD + US + "after = 'nowhere'",
            f"environments.staging-us.after is 'nowhere'; accepted: {ANOTHER}",
        ),
        (
            HEAD + EU + US + "after = 'staging-eu'",
            f"environments.staging-eu.after is 'staging-us'; accepted: {ANOTHER}",
        ),
    ],
)
def test_a_file_is_refused_by_its_key_and_value(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(f"/envs.toml: {message}") + "$"):
        loaded(tmp_path, text)


@pytest.mark.parametrize("text", ["name = ", "\udcff"])
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "envs.toml").write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(SettingError, match=r"^OA_CANARY_ENVIRONMENTS is .*envs.toml', which is no"):
        served({"OA_CANARY_ENVIRONMENTS": str(tmp_path / "envs.toml")})
    with pytest.raises(SettingError, match=r"No such file.*accepted: the path of a TOML file"):
        served({"OA_CANARY_ENVIRONMENTS": str(tmp_path / "none.toml")})


# -- what is read -----------------------------------------------------------------------------


def test_an_environment_of_a_file_has_names_probes_and_defaults_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "envs.toml"
    file.write_text("gate_timeout_seconds = 7\n" + HEAD + EU + US)
    variables = {"OA_CANARY_ENVIRONMENTS": str(file)}

    eu = resolve(chosen("staging-eu", variables, "--environment"), {}).plan
    us = resolve(chosen("staging-us", variables, "--environment"), {}).plan

    assert (eu.cohorts, eu.soak_seconds, us.cohorts, us.soak_seconds) == ((10,), 1, (5, 10), 0)
    assert eu.probe_payload(5) == {"thread_id": "eu-5", "cohort_key": "user:eu-5"}
    assert us.probe_payload(5)["thread_id"] == "staging-us-canary-thread-5"
    assert [gate.name for gate in eu.gates] == ["sync-security", "after-staging-us"]
    assert (eu.variable_prefix, eu.variables) == ("OA_STAGING_EU_CANARY", {"REGION": "eu"})
    assert (eu.gate_timeout_seconds, us.gate_timeout_seconds) == (7, 7)
    with pytest.raises(SettingError, match="--environment is not given; accepted: staging-eu, sta"):
        chosen(None, variables, "--environment")


@pytest.mark.parametrize(
    ("launch", "flag", "variable", "soak"),
    [(4, "3", "2", 4), (None, "3", "2", 3), (None, None, "2", 2), (None, None, "", 1)],
)
def test_launch_flag_and_variable_win_over_the_file(
    tmp_path: Path, launch: int | None, flag: str | None, variable: str, soak: int
) -> None:
    [eu, _] = loaded(tmp_path, HEAD + EU + US).parts
    variables = {
        "OA_STAGING_EU_CANARY_COHORT_SOAK_SECONDS": variable,
        "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "9",
        "OA_RUNTIME_METRICS_URL": "http://staging.example",
    }
    flags, launched = {"soak_seconds": flag}, LaunchConfig(soak_seconds=launch)

    plan = resolve(eu, variables, flags, launched).plan

    assert (plan.soak_seconds, plan.runtime_metrics_url) == (soak, None)


# -- what Dagster is told ---------------------------------------------------------------------

GATES = {gate.name.replace("-", "_") for gate in STAGING.gates}
COHORTS = {f"cohort_{percent}" for percent in STAGING.default_cohorts}


def test_staging_alone_has_the_names_it_always_had() -> None:
    repository = definitions(served({})).get_repository_def()
    job = repository.get_job("staging_canary_rollout")
    keys = {key.to_user_string() for key in repository.assets_defs_by_key}

    assert job.partitions_def is None
    assert set(_names(job)) == {
        "staging_canary__canary_env_sequence", "staging_gate_results", "staging_cohort_results",
        "staging_canary__summary", *GATES, *COHORTS,
    }  # fmt: skip
    assert keys == {"staging_canary_history"} | {
        f"staging_canary/{name}"
        for name in (
            "canary_env_sequence", "cohort_results", "control_status", "gate_results", "logs",
            "promotion", "runtime_metrics", "summary",
        )
    }  # fmt: skip
    assert [item.name for item in repository.schedule_defs] == ["staging_canary_rollout_schedule"]
    assert sorted(item.name for item in repository.sensor_defs) == SENSORS
    assert job.tags["canary/environment"] == "staging"


SENSORS = [f"staging_canary_{name}_sensor" for name in ("decision", "history", "left_live")]


def _names(job: dg.JobDefinition) -> Iterator[str]:
    for node in job.graph.nodes:
        inner = getattr(node.definition, "nodes", None)
        yield from (each.name for each in inner) if inner else [node.name]


def test_a_pipeline_is_one_job_with_a_partition_and_perhaps_a_schedule_for_each_environment(
    tmp_path: Path,
) -> None:
    whole = loaded(tmp_path, HEAD + EU + US)
    repository = definitions(whole).get_repository_def()
    job = repository.get_job("staging_canary_rollout")

    assert job.partitions_def
    assert job.partitions_def.get_partition_keys() == ["staging-eu", "staging-us"]
    assert "after" in set(_names(job))
    assert sorted(item.name for item in repository.sensor_defs) == SENSORS
    [schedule] = repository.schedule_defs
    assert schedule.name == "staging_eu_canary_rollout_schedule"
    with dg.instance_for_test() as instance:
        context = dg.build_schedule_context(instance=instance, repository_def=repository)
        [request] = schedule.evaluate_tick(context).run_requests or []
    assert request.partition_key == "staging-eu"
    assert request.tags["canary/environment"] == "staging-eu"


def test_a_cohort_by_variable_that_the_graph_has_no_step_for_keeps_the_location_from_loading(
    tmp_path: Path,
) -> None:
    whole = loaded(tmp_path, HEAD + EU + US)

    with pytest.raises(SettingError, match=r"^OA_STAGING_EU_CANARY_COHORTS is 7; accepted: some"):
        definitions(whole, {"OA_STAGING_EU_CANARY_COHORTS": "7"})


def test_the_receiver_of_an_environment_is_told_of_that_environment_alone(
    tmp_path: Path, receiver: Receiver
) -> None:
    eu = EU + f'notify_url = "{receiver.url}"\n'
    found = definitions(loaded(tmp_path, HEAD + eu + US))
    sensor = found.resolve_sensor_def("staging_canary_decision_sensor")
    for name in ("staging-eu", "staging-us"):
        Outbox(name).put(
            Item(
                environment=name, folder="", attempt=0, decision="no decision",
                reasons=(("it ended", "Dagster's event log"),),
                run_id=f"run of {name}", at=datetime.now(UTC),
            )
        )  # fmt: skip

    with dg.instance_for_test() as instance:
        tick = sensor.evaluate_tick(dg.build_sensor_context(instance, definitions=found))

    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert tick.skip_message == "1 decisions told"
    assert [body["environment"] for _, body in receiver.got] == ["staging-eu"]


# -- rollouts ---------------------------------------------------------------------------------


@dataclass
class World:
    """Commands with a checkout under version control, and a file of environments."""

    commands: Commands
    variables: dict[str, str] = field(default_factory=dict)

    def rollout(self, name: str, *arguments: str) -> tuple[int, Path]:
        """Roll out to an environment with the core; the exit code and the folder."""
        result = self.commands.rollout("--environment", name, *arguments, more=self.variables)
        found = re.search(r"rollout folder: (.+)", result.out)
        assert found, result.err
        return result.code, Path(found[1])


@pytest.fixture
def world(commands: Commands, staging: FakeStaging) -> World:
    checkout = commands.environment.pop("OA_STAGING_REPO_ROOT")
    variables = {"OA_CANARY_ENVIRONMENTS": str(commands.folder / "envs.toml")}
    for name in ("STAGING", "STAGING_EU", "STAGING_US"):
        variables[f"OA_{name}_REPO_ROOT"] = checkout
        variables[f"OA_{name}_CONTROL_BASE_URL"] = staging.url
        variables[f"OA_{name}_CONTROL_AUTH_TOKEN"] = TOKEN
    Path(checkout, ".gitignore").write_text("started/\n")
    commit(Path(checkout))
    return World(commands, variables)


def commit(folder: Path) -> None:
    """Commit all that is there."""
    who = ("-c", "user.name=test", "-c", "user.email=test@example")
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True)  # noqa: S607 - the one on PATH


def reason_of(folder: Path) -> Any:
    """Why the gate that comes after another environment failed, at last."""
    return [row for row in gate_rows(folder) if row["gate"].startswith("after-")][-1].get("detail")


@pytest.mark.slow
def test_an_environment_after_another_waits_for_its_allow_of_the_same_commit(
    world: World, staging: FakeStaging
) -> None:
    Path(world.variables["OA_CANARY_ENVIRONMENTS"]).write_text(HEAD + EU + US)
    checkout = Path(world.variables["OA_STAGING_REPO_ROOT"])

    code, eu = world.rollout("staging-eu")
    assert (code, reason_of(eu)) == (1, "staging-us has not been rolled out to yet")
    assert staging.probed == []

    assert world.rollout("staging-us")[0] == 0
    assert world.commands.resume(eu, more=world.variables).code == 0
    assert [seen.body for seen in staging.seen if seen.method == "POST"][-1] == {
        "thread_id": "eu-10",
        "cohort_key": "user:eu-10",
    }
    assert (eu / "logs/gate-sync-security.log").read_text() == "region eu\n"

    (checkout / "new").touch()
    code, eu = world.rollout("staging-eu")
    assert code == 1
    assert reason_of(eu).endswith(", with uncommitted changes")

    commit(checkout)
    code, eu = world.rollout("staging-eu")
    assert code == 1
    assert "is no allow: it is not on commit" in reason_of(eu)

    code, us = world.rollout("staging-us", "--skip-gates")
    code, eu = world.rollout("staging-eu")
    assert (code, reason_of(eu)) == (
        1,
        f"the newest rollout of staging-us, {us.name}, is no allow: block",
    )

    history = world.commands.run(
        "canary-rollout", "history", "--environment", "staging-us", "--limit", "1", "--json",
        more=world.variables,
    )  # fmt: skip
    assert f'"folder": "{us}"' in history.out


def test_what_the_newest_rollout_of_the_other_environment_leaves_unknown_is_no_allow(
    world: World,
) -> None:
    Path(world.variables["OA_CANARY_ENVIRONMENTS"]).write_text(HEAD + EU + US)
    code, us = world.rollout("staging-us")
    (us / "rollout.json").write_text("{")

    code, eu = world.rollout("staging-eu")

    assert code == 1
    assert us.name in reason_of(eu)


def test_the_newest_rollout_of_the_other_environment_is_the_one_that_was_worked_on_last(
    world: World, staging: FakeStaging
) -> None:
    Path(world.variables["OA_CANARY_ENVIRONMENTS"]).write_text(HEAD + EU + US)
    staging.probes[5] = answer(500, {})
    code, older = world.rollout("staging-us")
    assert code == 1
    del staging.probes[5]
    assert world.rollout("staging-us")[0] == 0
    assert world.rollout("staging-eu")[0] == 0

    staging.probes[5] = answer(500, {})
    resume = (*CORE, "resume", "--superseded", str(older))
    assert world.commands.run(*resume, more=world.variables).code == 1

    code, eu = world.rollout("staging-eu")
    assert code == 1
    assert reason_of(eu) == f"the newest rollout of staging-us, {older.name}, is no allow: block"


@pytest.mark.slow
def test_the_job_rolls_out_to_the_environment_of_its_partition(
    world: World, monkeypatch: pytest.MonkeyPatch, staging: FakeStaging
) -> None:
    Path(world.variables["OA_CANARY_ENVIRONMENTS"]).write_text(HEAD + EU.replace("after", "#") + US)
    for name, value in {**world.commands.environment, **world.variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.commands.folder)
    whole = served(os.environ)
    job = definitions(whole, dict(os.environ)).resolve_job_def("staging_canary_rollout")
    config = {"resources": {"rollout": {"config": {"cohort_soak_seconds": 0}}}}

    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            config, instance, partition_key="staging-eu", raise_on_error=False
        )
        run = instance.get_run_by_id(result.run_id)
        lost = job.execute_in_process(config, instance, raise_on_error=False)
        key = dg.AssetKey(["staging_canary", "summary"])
        made = instance.get_materialized_partitions(key)

    assert (result.success, lost.success, made) == (True, False, {"staging-eu"})
    [folder] = world.commands.folders
    assert run
    assert run.tags["canary/environment"] == "staging-eu"
    assert folder.name.startswith("staging-eu-")
    assert decision(folder) == "Decision: allow"
    assert [row["cohort_percent"] for row in cohort_rows(folder)] == staging.probed == [10]
    sequence = (folder / "canary-env-sequence.txt").read_text().splitlines()
    assert "OA_STAGING_EU_CANARY_COHORT_SOAK_SECONDS=0" in sequence


def test_the_history_is_made_anew_after_any_environment_whatever_the_others_have(
    tmp_path: Path,
) -> None:
    found = definitions(loaded(tmp_path, HEAD + EU + US))
    with dg.DagsterInstance.ephemeral() as instance:
        before = dg.evaluate_automation_conditions(found, instance)
        key = dg.AssetKey(["staging_canary", "summary"])
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="staging-us"))
        after = dg.evaluate_automation_conditions(found, instance, cursor=before.cursor)

    history = dg.AssetKey("staging_canary_history")
    assert after.get_num_requested(history) == 1


@pytest.mark.slow
def test_the_readme_s_eight_lines_add_a_second_environment(
    world: World, staging: FakeStaging
) -> None:
    [first, second] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert len(second.splitlines()) == 8
    Path(world.variables["OA_CANARY_ENVIRONMENTS"]).write_text(first + second)
    checkout = Path(world.variables["OA_STAGING_REPO_ROOT"])
    (checkout / "behaviour/provision").write_text('echo "checks $1"')
    commit(checkout)
    for name in ("RUNTIME_METRICS", "CONTROL_STATUS"):
        world.variables[f"OA_STAGING_EU_{name}_URL"] = f"{staging.url}/{name}"

    for name in ("staging", "staging-eu"):
        code, folder = world.rollout(name, "--cohort-soak-seconds", "0")
        assert (code, folder.name.rpartition("-")[0]) == (0, name)
        log = folder / "logs/gate-spacetime-provision-staging.log"
        assert log.read_text() == f"checks {name}\n"

    assert staging.probed == 2 * list(STAGING.default_cohorts)
    assert {row["gate"] for row in gate_rows(folder)} >= {"sync-security", "after-staging"}
    status = world.commands.run("canary-rollout", "status", more=world.variables)
    assert (status.code, status.out.count("Decision: allow")) == (0, 2), status.out


# -- many -------------------------------------------------------------------------------------

LOADING = """
import os, time
import dagster
begun = time.process_time()
import canary_pipeline.definitions as loaded
loaded.defs.get_repository_def().get_job("staging_canary_rollout")
print(time.process_time())
"""


@pytest.mark.prove
def test_a_thousand_environments_load_about_like_one(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        file = tmp_path / f"{count}.toml"
        names = (f"[environments.region-{number}]\n" for number in range(count))
        file.write_text(HEAD + "".join(names))
        variables = {**os.environ, "OA_CANARY_ENVIRONMENTS": str(file)}
        command = [sys.executable, "-c", LOADING]
        runs = (
            subprocess.run(command, env=variables, check=True, capture_output=True).stdout
            for _ in range(3)
        )
        return min(map(float, runs))

    assert seconds(1000) < 1.5 * seconds(1)
