"""Hosts that are namespaces of mounts, pids and names: as apart as containers of one machine."""

import shutil
import subprocess
from dataclasses import dataclass

import pytest

from canary_pipeline_tests.conftest import CORE, PROGRAMS, Result, await_true, decision, statuses
from canary_pipeline_tests.machines.conftest import SOAK, Host, World, kill

UNSHARE = shutil.which("unshare") or "unshare"
ENTER = ("--mount", "--pid", "--fork", "--kill-child", "--uts", "--mount-proc", "sh", "-c")
BEGIN = 'hostname "$0" && mount -t tmpfs tmpfs "$CANARY_PIPELINE_CLAIM_DIR" && exec "$@"'

COHORTS = ("--cohorts", "5,100")


@dataclass
class Apart(Host):
    """A host whose every command begins in new namespaces, with no lock file in its folder."""

    name: str

    def start(self, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        program = (str(PROGRAMS / CORE[0]), *CORE[1:])
        return self.commands.start(
            UNSHARE, *ENTER, BEGIN, self.name, *program, *arguments, more=more
        )

    def run(self, *arguments: str, **more: str) -> Result:
        return self.commands.finish(self.start(*arguments, **more))


@pytest.fixture
def apart(world: World) -> World:
    claims = world.shared.with_name("claims")
    claims.mkdir()
    hosts = [
        Apart(host.commands, name) for host, name in ((world.one, "one"), (world.other, "other"))
    ]
    for host in hosts:
        host.commands.environment["CANARY_PIPELINE_CLAIM_DIR"] = str(claims)
    tried = subprocess.run(
        [UNSHARE, *ENTER, BEGIN, "host", "true"],
        env={"CANARY_PIPELINE_CLAIM_DIR": str(claims), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        pytest.skip(f"namespaces are not permitted here: {tried.stderr.strip()}")
    world.one, world.other = hosts
    return world


def start_at_once(world: World, **more: str) -> tuple[Host, "subprocess.Popen[str]", Result]:
    """Let both hosts start, with gates that wait; the one that rolls out, and what refused said."""
    begin = world.checkout.folder / "begin"
    begin.unlink(missing_ok=True)
    world.checkout.gate("spacetime-chaos", f"until [ -e '{begin}' ]; do sleep 0.05; done")
    started = [(host, host.start("run", *COHORTS, **more)) for host in (world.one, world.other)]
    [(refused_host, refused)] = await_true(
        lambda: [one for one in started if one[1].poll() is not None]
    )
    [(host, process)] = [one for one in started if one[1] is not refused]
    begin.touch()
    return host, process, refused_host.commands.finish(refused)


@pytest.mark.slow
def test_of_two_namespaces_one_rolls_out_and_when_it_dies_the_other_goes_on(apart: World) -> None:
    host, process, refused = start_at_once(apart, **{SOAK: "4"})
    other = apart.other if host is apart.one else apart.one
    assert isinstance(host, Apart)
    assert (refused.code, f"@{host.name}, " in refused.err) == (3, True), refused
    apart.await_phase("soak")
    kill(process)

    name = apart.published.name
    for again in (host, other):  # neither can know: in another namespace, that pid is another's
        assert again.run("resume", name).code == 3
    apart.expire()
    resumed = other.run("resume", name)
    assert resumed.code == 0, resumed.out + resumed.err
    assert statuses(apart.published) == [(5, "passed", None), (100, "passed", None)]


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_twenty_times_one_of_two_hosts_that_start_at_once_is_refused(apart: World) -> None:
    for _ in range(20):
        _, process, refused = start_at_once(apart)
        assert refused.code == 3
        assert "another rollout of staging is under way: by " in refused.err
        process.communicate()
        assert process.returncode == 0
    published = list((apart.shared / "rollouts/staging").iterdir())
    assert [decision(folder) for folder in published] == ["Decision: allow"] * 20
