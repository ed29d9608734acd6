"""Many environments: fifty that roll out at once, and a hundred with a thousand rollouts each."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from canary_pipeline.commands.history import tell
from canary_pipeline.environments import STAGING
from canary_pipeline.outside.shared_folder import SharedFolder
from canary_pipeline.store.elsewhere import Elsewhere, bring_newest
from canary_pipeline_tests.conftest import CORE, TOKEN, decision
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.machines.conftest import URL, World

HEAD = """
name = "staging"
cohorts = [5]
[gates]
sync-security = "scripts/local-ci.sh sync-security"
"""


def environments(world: World, staging: FakeStaging, count: int, soak: int = 0) -> list[str]:
    """Let there be environments e0, e1 and so on, all of one staging."""
    token, file = (world.shared.with_name(name) for name in ("token", "environments.toml"))
    token.write_text(TOKEN)
    own = (
        f"repo_root = '{world.checkout.folder}'\ncontrol_base_url = '{staging.url}'\n"
        f"auth_token_file = '{token}'\nsoak_seconds = {soak}\n"
    )
    names = [f"e{number}" for number in range(count)]
    tables = [f"[environments.{name}]\n{own}variables.NAME = '{name}'\n" for name in names]
    file.write_text(HEAD + "".join(tables))
    for host in (world.one, world.other):
        host.commands.environment["OA_CANARY_ENVIRONMENTS"] = str(file)
        host.commands.environment.pop("OA_STAGING_CANARY_APPLY_COMMAND", None)
    return names


def published(shared: Path, environment: str, *names: str) -> None:
    for name in names:
        folder = shared / f"rollouts/{environment}/{name}"
        folder.mkdir(parents=True)
        (folder / "rollout.json").write_text("{}")


def test_of_all_environments_the_newest_rollouts_are_brought_and_no_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    published(tmp_path, "eu", "eu-20260101T000000Z", "eu-20260104T000000Z", "named-by-hand")
    published(tmp_path, "us", "us-20260102T000000Z", "us-20260103T000000Z")
    there = [replace(STAGING, name=name) for name in ("eu", "us", "none-yet")]
    bring_newest([Elsewhere(SharedFolder(tmp_path), each) for each in there], 2)

    brought = {folder.name for folder in Path(there[0].output_root).iterdir()}
    assert brought == {"named-by-hand", "eu-20260104T000000Z", "us-20260103T000000Z"}


def test_two_environments_roll_out_side_by_side(world: World, staging: FakeStaging) -> None:
    environments(world, staging, 2)
    both = "until [ -e started-e0 -a -e started-e1 ]; do sleep 0.05; done"
    world.checkout.gate("sync-security", f"touch started-$NAME; {both}")
    hosts = {"e0": world.one, "e1": world.other}
    started = {name: host.start("run", "--environment", name) for name, host in hosts.items()}
    for name, host in hosts.items():
        result = host.commands.finish(started[name])
        assert result.code == 0, result.out + result.err


ENVIRONMENTS, ROLLOUTS, AT_ONCE = 100, 1000, 50


@pytest.fixture
def no_litter(tmp_path: Path) -> Iterator[None]:
    """Take away what would keep a later session busy for minutes: pytest leaves folders behind."""
    yield
    shutil.rmtree(tmp_path)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("no_litter")
@pytest.mark.parametrize("shared", [True, False], ids=["in a store", "on one machine"])
def test_a_hundred_thousand_rollouts_keep_nobody_waiting(
    world: World,
    staging: FakeStaging,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    shared: bool,
) -> None:
    """Seconds of this process's own time: of one environment at most one, of all at most five."""
    names = environments(world, staging, ENVIRONMENTS)
    assert world.one.run("run", "--environment", "e0").code == 0
    [real] = (world.shared / "rollouts/e0").iterdir()
    usual = world.other.commands.folder / STAGING.output_root
    for name in names:
        folder = world.shared / f"rollouts/{name}" if shared else usual
        header = shutil.copy(real / "rollout.json", world.shared.with_name(f"{name}.json"))
        for number in range(ROLLOUTS):
            moment = f"2025{number // 28 % 12 + 1:02}{number % 28 + 1:02}T{number // 336:02}0000Z"
            copy = folder / f"{name}-{moment}"
            if name == "e0" and number > ROLLOUTS - 50:  # those that are read
                shutil.copytree(real, copy)
            else:
                copy.mkdir(parents=True)
                (copy / "rollout.json").hardlink_to(header)

    monkeypatch.chdir(world.other.commands.folder)
    for name, value in world.other.commands.environment.items():
        monkeypatch.setenv(name, value)
    if not shared:
        monkeypatch.delenv(URL)
    for environment, most in (("e0", 1), (None, 5)):
        for _ in range(2):  # brought, and there already
            began, own = time.monotonic(), time.process_time()
            tell(None, 20, None, as_json=True, environment=environment)
            took, own = time.monotonic() - began, time.process_time() - own
            assert len(capsys.readouterr().out.splitlines()) == 20
            with capsys.disabled():
                print(f"history of {environment or 'all'}: {took:.2f} s, CPU {own:.2f} s")
            assert own <= most


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_fifty_environments_roll_out_at_once(
    world: World, staging: FakeStaging, capsys: pytest.CaptureFixture[str]
) -> None:
    names = environments(world, staging, AT_ONCE, soak=60)
    program = os.environ.get("AT_ONCE", " ".join(CORE)).split()
    with (world.shared.with_name("printed")).open("w") as printed:
        began = time.monotonic()
        started = {
            name: world.one.commands.start(*program, "run", "--environment", name, output=printed)
            for name in names
        }
        used = {name: os.wait4(process.pid, 0) for name, process in started.items()}
        took = time.monotonic() - began

    for name, process in started.items():
        process.returncode = os.waitstatus_to_exitcode(used[name][1])
    assert {process.returncode for process in started.values()} == {0}
    for name in names:
        [folder] = (world.shared / f"rollouts/{name}").iterdir()
        assert decision(folder) == "Decision: allow"
        lease = json.loads((world.shared / f"leases/{name}.json").read_text())
        assert (lease["token"], lease["released"]) == (1, True)
    usages = [usage for _, _, usage in used.values()]
    memory = max(usage.ru_maxrss for usage in usages) / 1024
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages) / AT_ONCE
    with capsys.disabled():
        print(f"{AT_ONCE} rollouts: {took:.0f} s, each {memory:.0f} MiB at most, CPU {cpu:.1f} s")
