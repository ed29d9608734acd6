"""Whole rollouts whose evidence is in a bucket of a real server, and whose network is cut."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from canary_pipeline_tests.conftest import (
    await_true,
    soaks,
    statuses,
    under_way,
)
from canary_pipeline_tests.machines.conftest import SOAK, URL, World
from canary_pipeline_tests.outside.s3_server import Network, seaweedfs

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]


@pytest.fixture
def network(world: World, tmp_path: Path) -> Iterator[Network]:
    """The first host's way to the bucket; the other's is never cut."""
    (tmp_path / "seaweed").mkdir()
    with seaweedfs(tmp_path / "seaweed") as address:
        network = Network(address)
        shared = {URL: f"s3://evidence/{uuid4()}", "AWS_ACCESS_KEY_ID": "a"}
        shared |= {"AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        ways = ((world.one, network.address), (world.other, address))
        for host, way in ways:
            host.commands.environment |= {**shared, "AWS_ENDPOINT_URL": way}
        yield network
        network.cut()


@pytest.mark.machines
def test_a_network_that_is_cut_in_a_soak_costs_nothing(world: World, network: Network) -> None:
    process = world.one.start("run", "--cohorts", "5", **{SOAK: "15"})
    await_true(lambda: any(map(soaks, world.one.commands.folders)), seconds=90)
    network.cut()
    before = under_way(world.one.folder)
    await_true(lambda: under_way(world.one.folder) != before)  # noted every 5 s
    refused = world.other.run("run", "--cohorts", "5")
    assert (refused.code, "is under way" in refused.err) == (3, True), refused
    network.mend()

    result = world.one.commands.finish(process)
    assert result.code == 0, result.out + result.err
    name = world.one.folder.name
    verified = world.other.run("verify", f"staging/{name}")
    assert verified.code == 0, verified.out + verified.err
    assert statuses(world.other.folder) == [(5, "passed", None)]


def test_a_network_that_stays_cut_ends_without_a_decision(world: World, network: Network) -> None:
    process = world.one.start("run", "--cohorts", "5", **{SOAK: "3"})
    await_true(lambda: any(map(soaks, world.one.commands.folders)), seconds=90)
    network.cut()

    out, _ = process.communicate(timeout=200)
    assert process.returncode == 3, out
    assert "Decision: block" in out
    network.mend()
    assert world.other.run("verify", f"staging/{world.one.folder.name}").code == 3
