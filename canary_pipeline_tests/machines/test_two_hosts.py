"""Two hosts that share staging: one rolls out at a time, and each can go on for the other."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canary_pipeline.model.decision import decide
from canary_pipeline.outside.lease import RELEASE_SECONDS
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.conftest import (
    await_true,
    cohort_rows,
    decision,
    soaks,
    statuses,
)
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.machines.conftest import SOAK, URL, World, kill
from canary_pipeline_tests.orchestration.test_decision_sensor import Receiver, receiver

__all__ = ["receiver"]

COHORTS = ("--cohorts", "5,100")
PASSED = [(5, "passed", None), (100, "passed", None)]


def test_of_two_hosts_that_start_at_once_one_rolls_out_and_one_is_refused(world: World) -> None:
    started = [host.start("run", *COHORTS) for host in (world.one, world.other)]
    results = [
        host.commands.finish(each)
        for host, each in zip((world.one, world.other), started, strict=True)
    ]

    assert sorted(each.code for each in results) == [0, 3], results
    refused = max(results, key=lambda each: each.code)
    assert "another rollout of staging is under way: by " in refused.err
    assert decision(world.published) == "Decision: allow"
    assert statuses(world.published) == PASSED


def test_what_is_published_is_what_was_written_and_read_anywhere(world: World) -> None:
    assert world.one.run("run", *COHORTS).code == 0

    name = world.published.name
    for file in world.published.rglob("*.*"):
        assert (
            file.read_bytes() == (world.one.folder / file.relative_to(world.published)).read_bytes()
        )
    assert {row["claim_token"] for row in cohort_rows(world.published)} == {1}
    verified = world.other.run("verify", f"staging/{name}")
    assert verified.code == 0, verified.out + verified.err
    assert "allow" in world.other.run("history").out
    told = world.other.run("status")
    assert (told.code, "staging: no rollout" in told.out, name in told.out) == (0, True, True)


def test_a_rollout_whose_host_died_is_gone_on_with_on_another(
    world: World, staging: FakeStaging
) -> None:
    process = world.one.start("run", *COHORTS, **{SOAK: "4"})
    world.await_phase("soak")
    kill(process)

    name = world.published.name
    busy = world.other.run("resume", name)
    assert busy.code == 3
    assert "token 1" in busy.err
    world.expire(RELEASE_SECONDS)  # else it is waited for
    assert world.other.run("release", "staging", "--token", "1").code == 0
    left = world.other.run("status")
    assert (left.code, "has left staging at 5 %" in left.out) == (1, True), left.out
    resumed = world.other.run("resume", name)
    assert resumed.code == 0, resumed.out + resumed.err
    assert statuses(world.published) == PASSED
    assert staging.probed == [5, 100]
    assert [row["claim_token"] for row in cohort_rows(world.published)] == [2, 2]
    assert world.other.run("status").code == 0


def test_a_rollout_that_was_killed_is_gone_on_with_on_its_own_host_at_once(world: World) -> None:
    process = world.one.start("run", *COHORTS, **{SOAK: "4"})
    world.await_phase("soak")
    kill(process)

    left = world.one.run("status")
    assert (left.code, "has left staging at 5 %" in left.out) == (1, True), left.out
    silent = world.one.run("stop")
    assert (silent.code, "is silent, and may be dead" in silent.err) == (3, True), silent
    assert world.other.run("resume", world.published.name).code == 3  # nobody there can know
    resumed = world.one.run("resume", world.published.name)
    assert resumed.code == 0, resumed.out + resumed.err
    assert statuses(world.published) == PASSED
    assert [row["claim_token"] for row in cohort_rows(world.published)] == [2, 2]


def test_what_a_dead_host_has_left_live_is_rolled_back_on_another(world: World) -> None:
    process = world.one.start("run", *COHORTS, **{SOAK: "60"})
    world.await_phase("soak")
    kill(process)
    assert world.percent == 5

    world.expire(RELEASE_SECONDS)  # else it is waited for
    assert world.other.run("release", "staging", "--token", "1").code == 0
    rolled_back = world.other.run("rollback", f"staging/{world.published.name}")
    assert rolled_back.code == 0, rolled_back.out + rolled_back.err
    assert world.percent == 0
    assert decision(world.published) == "Decision: block"
    assert world.other.run("status").code == 0


def test_a_rollout_is_stopped_from_another_host(world: World) -> None:
    process = world.one.start("run", *COHORTS, **{SOAK: "90"})
    world.await_phase("soak")

    assert world.other.run("stop", "staging").code == 0
    result = world.one.commands.finish(process)
    assert result.code == 3
    assert "asked for it" in (world.published / "SUMMARY.md").read_text()
    assert world.percent == 0
    nobody = world.other.run("stop")
    assert (nobody.code, "no rollout of staging is under way" in nobody.err) == (3, True)


def test_a_store_that_is_away_for_some_seconds_of_a_soak_costs_nothing(world: World) -> None:
    process = world.one.start("run", "--cohorts", "5", **{SOAK: "8"})
    world.await_phase("soak")
    away = world.shared.rename(world.shared.with_name("away"))
    file = next(world.one.folder.glob("in-flight/*"))
    before = file.read_text()
    await_true(lambda: file.read_text() != before)  # the soak goes on
    away.rename(world.shared)

    result = world.one.commands.finish(process)
    assert result.code == 0, result.out + result.err
    assert decision(world.published) == "Decision: allow"


def test_a_store_that_is_not_there_is_refused_before_a_file_is_written(world: World) -> None:
    shutil.rmtree(world.shared)
    result = world.one.run("run", *COHORTS)
    assert (result.code, "is it mounted?" in result.err) == (2, True)
    assert world.one.commands.folders == []


def test_a_name_that_another_host_has_published_is_not_used_again(world: World) -> None:
    assert world.one.run("run", "--cohorts", "5", "--output-dir", "named").code == 0
    again = world.other.run("run", "--cohorts", "5", "--output-dir", "named")
    assert (again.code, "a rollout of this name is published already" in again.err) == (2, True)
    assert not (world.other.commands.folder / "named").exists()


def test_commands_know_the_token_of_the_claim(world: World) -> None:
    more = {
        "OA_STAGING_CANARY_APPLY_COMMAND": 'echo "$OA_STAGING_CANARY_CLAIM_TOKEN" > token; exit 1'
    }
    assert world.one.run("run", *COHORTS, **more).code == 1
    assert (world.checkout.folder / "token").read_text() == "1\n"
    assert world.one.run("run", *COHORTS, **more).code == 1
    assert (world.checkout.folder / "token").read_text() == "2\n"


def test_on_one_machine_a_lock_file_that_is_taken_away_stops_the_rollout(world: World) -> None:
    process = world.one.start("run", "--cohorts", "5", **{SOAK: "60", URL: ""})
    await_true(lambda: any(map(soaks, world.one.commands.folders)))
    [lock] = (world.one.commands.folder.parent / "claims").iterdir()
    assert json.loads(lock.read_text())["started by"] == "canary-rollout"
    lock.unlink()

    result = world.one.commands.finish(process)
    assert result.code == 3
    assert "lock file" in (world.one.folder / "SUMMARY.md").read_text()
    assert world.percent == 0  # nobody else has begun, so it is rolled back


@pytest.mark.slow
def test_dagster_holds_and_publishes_too(world: World) -> None:
    result = world.one.commands.run("canary-rollout", "run", *COHORTS)
    assert result.code == 0, result.out + result.err
    assert statuses(world.published) == PASSED
    job = world.one.commands.job(more={"OA_STAGING_CANARY_COHORTS": "5"})
    assert job.code == 0, job.out + job.err
    lease = json.loads((world.shared / "leases/staging.json").read_text())
    assert (lease["token"], lease["released"], lease["owed"]) == (2, True, None)
    assert lease["holder"]["rollout"] == world.one.commands.folders[-1].name
    assert "run" in lease["holder"]
    assert world.other.run("history", "--json").out.count('"decision": "allow"') == 2


def test_a_run_whose_host_has_no_sensor_tells_its_decision_itself(
    world: World, receiver: Receiver
) -> None:
    notify = {"OA_STAGING_CANARY_COHORTS": "5", "OA_STAGING_CANARY_NOTIFY_URL": receiver.url}
    Path(world.one.commands.environment["DAGSTER_HOME"]).mkdir()

    assert world.one.commands.job(more=notify).code == 0

    [(_, notice)] = receiver.got
    assert (notice["decision"], notice["folder"]) == ("allow", str(world.one.folder))


def test_rows_of_who_had_lost_the_claim_are_ignored_and_block(world: World) -> None:
    assert world.one.run("run", "--cohorts", "5").code == 0
    evidence = Evidence(world.one.folder)
    [row] = evidence.record().cohort_rows
    for token, status in ((3, "failed"), (2, "passed")):
        stale = row.model_copy(update={"claim_token": token, "status": status})
        evidence.append("cohort-results.jsonl", stale.to_json_object())

    record = evidence.record()
    assert [(each.claim_token, each.status) for each in record.cohort_rows] == [
        (1, "passed"),
        (3, "failed"),
    ]
    assert "claim 2 after one of claim 3" in record.problems[0].message
    assert not decide(record).allowed


def test_what_a_newer_rollout_of_another_host_has_allowed_is_withdrawn(world: World) -> None:
    world.checkout.gate("sync-security", "exit 1")
    assert world.one.run("run", "--cohorts", "5").code == 1
    world.checkout.gate("sync-security", "exit 0")
    old = world.published.name
    await_true(lambda: datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ") > old.partition("-")[2])
    assert world.other.run("run", "--cohorts", "5").code == 0
    newer = world.shared / "rollouts/staging" / world.other.folder.name

    refused = world.one.run("resume", old)
    assert (refused.code, newer.name in refused.err) == (2, True)
    assert world.one.run("resume", old, "--superseded").code == 0
    assert world.other.run("verify", str(world.other.folder)).code == 1
    assert decision(newer) == "Decision: block"
