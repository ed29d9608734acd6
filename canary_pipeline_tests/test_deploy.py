"""The files to deploy with, as far as they can be read without Docker and Kubernetes."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml  # type: ignore[import-untyped]

from canary_pipeline.orchestration.run_queue import RolloutQueue

ROOT = Path(__file__).parents[1]
GRACE_SECONDS = 300
"""What a rollback may take by default until staging shows it."""


WRITTEN_TO = ("/work", "/work/dagster")
"""A folder that a file is mounted into is root's, unless it is mounted itself."""

OF_CODE_ALONE = {"DAGSTER_CURRENT_IMAGE"}
"""What a run does not ask for."""

ACCEPTED = {
    "": "dagsterWebserver dagster-user-deployments postgresql generatePostgresqlPasswordSecret "
    "generateCeleryConfigSecret rabbitmq redis flower ingress imagePullSecrets computeLogManager "
    "scheduler runLauncher pythonLogs dagsterDaemon busybox migrate telemetry serviceAccount "
    "global retention additionalInstanceConfig",
    "global": "postgresqlSecretName dagsterHome serviceAccountName celeryConfigSecretName",
    "postgresql": "image enabled postgresqlHost postgresqlUsername postgresqlPassword "
    "postgresqlDatabase postgresqlParams postgresqlScheme service",
    "dagsterWebserver.image": "repository tag pullPolicy",
    "dagsterDaemon": "enabled image runCoordinator heartbeatTolerance env envConfigMaps envSecrets "
    "deploymentLabels labels nodeSelector affinity tolerations podSecurityContext securityContext "
    "resources livenessProbe readinessProbe startupProbe annotations runMonitoring runRetries "
    "sensors schedules schedulerName volumeMounts volumes",
    "dagsterDaemon.runCoordinator": "enabled type config",
    "dagsterDaemon.runCoordinator.config": "queuedRunCoordinator customRunCoordinator",
    "dagsterDaemon.runCoordinator.config.customRunCoordinator": "module class config",
    "runLauncher": "type config",
    "runLauncher.config": "celeryK8sRunLauncher k8sRunLauncher customRunLauncher",
    "runLauncher.config.k8sRunLauncher": "image imagePullPolicy jobNamespace loadInclusterConfig "
    "kubeconfigFile envConfigMaps envSecrets envVars volumeMounts volumes labels "
    "failPodOnRunFailure resources schedulerName securityContext runK8sConfig",
    "runLauncher.config.k8sRunLauncher.runK8sConfig": "containerConfig podSpecConfig "
    "podTemplateSpecMetadata jobSpecConfig jobMetadata",
    "dagster-user-deployments": "enabled enableSubchart imagePullSecrets deployments",
    "dagster-user-deployments.deployments": "name image dagsterApiGrpcArgs codeServerArgs "
    "includeConfigInLaunchedRuns deploymentNamespace port env envConfigMaps envSecrets annotations "
    "nodeSelector affinity tolerations podSecurityContext securityContext resources livenessProbe "
    "readinessProbe startupProbe labels volumeMounts volumes schedulerName initContainers "
    "sidecarContainers",
}
"""By path in the values, what the schema of Dagster's chart knows; below others it is anything."""


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / name).read_text())


def test_every_service_of_compose_writes_in_one_folder_only_and_waits_for_postgres() -> None:
    compose = read("compose.yaml")
    ours = {name: each for name, each in compose["services"].items() if name != "postgres"}

    assert set(ours) == {"code", "webserver", "daemon"}
    for service in ours.values():
        assert service["read_only"]
        assert service["tmpfs"] == [f"{each}:uid=10001,mode=0700" for each in WRITTEN_TO]
        assert service["depends_on"]["postgres"]["condition"] == "service_healthy"
        files = [mount.split(":")[1] for mount in service["volumes"] if mount.startswith("./")]
        assert {str(Path(file).parent) for file in files} <= set(WRITTEN_TO)
        mounts = [mount.split(":") for mount in service["volumes"]]
        named = {source for source, *_ in mounts if not source.startswith((".", "/"))}
        assert named <= set(compose["volumes"])
        assert all(rest[1:] == ["ro"] for source, *rest in mounts if "docker.sock" not in source)
        files = [source for source, *_ in mounts if source.startswith("./")]
        assert all((ROOT / "deploy" / file).is_file() for file in files)


def test_who_starts_and_stops_containers_is_of_the_group_that_may() -> None:
    services = read("compose.yaml")["services"]
    socket = {name for name, each in services.items() if "docker.sock" in str(each["volumes"])}

    assert socket == {name for name, each in services.items() if "group_add" in each}
    assert socket == {"webserver", "daemon"}
    assert all("${DOCKER_GID:?" in services[name]["group_add"][0] for name in socket)


def test_what_a_run_is_given_by_compose_is_what_its_code_location_has() -> None:
    compose, instance = read("compose.yaml"), read("dagster.yaml")
    launcher = instance["run_launcher"]["config"]
    given = {text.partition("=")[0] for text in launcher["env_vars"]}
    lines = (ROOT / "deploy/dagster.yaml").read_text()
    if_set = set(re.findall(r"^ +# - (\w+)$", lines, re.MULTILINE))
    volumes = {mount.partition(":")[0] for mount in launcher["container_kwargs"]["volumes"]}

    code, daemon = (compose["services"][name]["environment"] for name in ("code", "daemon"))
    assert given | if_set == set(daemon)
    assert if_set == {name for name, value in daemon.items() if value is None}
    assert set(code) - set(daemon) == OF_CODE_ALONE
    assert not any(value in ("", f"${{{name}:-}}") for name, value in code.items())
    assert volumes <= {(each or {}).get("name") for each in compose["volumes"].values()}
    assert launcher["network"] == compose["networks"]["canary"]["name"]
    assert launcher["container_kwargs"]["stop_timeout"] > GRACE_SECONDS
    assert read("workspace.yaml")["load_from"][0]["grpc_server"]["host"] in compose["services"]


def test_postgres_is_reached_by_the_driver_that_is_installed() -> None:
    url = read("compose.yaml")["services"]["code"]["environment"]["DAGSTER_POSTGRES_URL"]
    assert url.startswith("postgresql+psycopg2://")
    assert read("helm-values.yaml")["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"


def test_a_pod_has_no_rights_and_time_to_end() -> None:
    values = read("helm-values.yaml")
    [code] = values["dagster-user-deployments"]["deployments"]
    run = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    pod, container = run["podSpecConfig"], run["containerConfig"]

    assert pod["terminationGracePeriodSeconds"] > GRACE_SECONDS
    assert run["jobSpecConfig"]["backoffLimit"] == 0
    for held in ((pod, container), (code | {"securityContext": code["podSecurityContext"]}, code)):
        assert held[0]["securityContext"]["runAsNonRoot"]
        assert held[1]["securityContext"]["readOnlyRootFilesystem"]
        assert {each["name"] for each in held[1]["volumeMounts"]} == {
            each["name"] for each in held[0]["volumes"]
        }
    assert values["dagsterDaemon"]["runMonitoring"]["enabled"]


def test_a_token_that_is_renewed_reaches_a_rollout_that_is_under_way() -> None:
    compose = read("compose.yaml")["services"]["code"]
    [pod] = read("helm-values.yaml")["dagster-user-deployments"]["deployments"]
    whole = {mount["mountPath"] for mount in pod["volumeMounts"] if "subPath" not in mount}
    mounted = {mount.split(":")[1] for mount in compose["volumes"]}

    for environment, folders in ((compose["environment"], mounted), (pod["env"], whole)):
        assert "OA_STAGING_CONTROL_AUTH_TOKEN" not in environment
        assert str(Path(environment["OA_STAGING_CONTROL_AUTH_TOKEN_FILE"]).parent) in folders
    assert {"name": "canary-control"} not in pod["envSecrets"]


@pytest.mark.parametrize("path", ACCEPTED)
def test_every_value_is_one_that_the_schema_of_the_chart_knows(path: str) -> None:
    found = read("helm-values.yaml")
    for name in filter(None, path.split(".")):
        found = found[name]

    for held in found if isinstance(found, list) else [found]:
        assert set(held) <= set(ACCEPTED[path].split())


@pytest.mark.parametrize("name", ["compose.yaml", "helm-values.yaml"])
def test_no_secret_stands_in_a_file(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    said = re.findall(r"^\s*[\w-]*(?:PASSWORD|SECRET_ACCESS_KEY|TOKEN): *(.*)$", text, re.MULTILINE)
    assert all(value == "" or value.startswith("${") for value in said), said


def test_runs_wait_for_each_other_as_on_one_machine(tmp_path: Path) -> None:
    one = yaml.safe_load((ROOT / "canary_pipeline/instance.yaml").read_text())
    assert {name: read("dagster.yaml")[name] for name in one} == one

    coordinator = read("helm-values.yaml")["dagsterDaemon"]["runCoordinator"]
    assert coordinator["type"] == "CustomRunCoordinator"
    chart = {"run_coordinator": coordinator["config"]["customRunCoordinator"]}
    limits = []
    for name, configuration in {"one": one, "chart": chart}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "dagster.yaml").write_text(yaml.safe_dump(configuration))
        with dg.DagsterInstance.from_config(str(tmp_path / name)) as instance:
            assert isinstance(instance.run_coordinator, RolloutQueue)
            queue = instance.get_concurrency_config().run_queue_config
            limits.append(queue and queue.tag_concurrency_limits)
    assert limits[0] == limits[1] != []


def test_terminate_waits_for_as_long_as_a_rollback_may_take() -> None:
    values, compose = read("helm-values.yaml"), read("dagster.yaml")
    pod = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]
    container = compose["run_launcher"]["config"]["container_kwargs"]

    waits = values["dagsterDaemon"]["runMonitoring"]["cancelTimeoutSeconds"]
    assert waits > pod["terminationGracePeriodSeconds"]
    assert compose["run_monitoring"]["cancel_timeout_seconds"] > container["stop_timeout"]


def test_the_image_is_not_run_by_root_and_writes_below_one_folder() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER 10001" in lines
    assert "VOLUME /work" in lines
    written = re.findall(r"_(?:HOME|DIR)=(\S+)|TMPDIR=(\S+)", "\n".join(lines))
    assert all("".join(pair).startswith("/work") for pair in written)
    assert any("exec " in line for line in lines if line.startswith("ENTRYPOINT"))
