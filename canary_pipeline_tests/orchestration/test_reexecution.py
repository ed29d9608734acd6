"""Runs of Dagster's, one after another: what a re-execution goes on with, and what it may say."""

from http.server import BaseHTTPRequestHandler

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.commands.exits import BadInputError
from canary_pipeline.commands.find import find_rollout
from canary_pipeline.orchestration import executor
from canary_pipeline.orchestration.going_on import FROM_ASSET_FAILURE_TAG, FROM_FAILURE_TAG
from canary_pipeline.orchestration.runs import ROLLOUT_TAG
from canary_pipeline.store.layout import TIMELINE
from canary_pipeline_tests.conftest import GATES, decision
from canary_pipeline_tests.fake_staging import GOOD, answer
from canary_pipeline_tests.orchestration.launches import Launches, launches
from canary_pipeline_tests.rollout.conftest import commit
from canary_pipeline_tests.rollouts_at_hand import at_hand
from canary_pipeline_tests.test_superseded import page

__all__ = ["at_hand", "launches"]


def test_an_older_rollout_s_summary_does_not_speak_over_a_newer_one(launches: Launches) -> None:
    monday, green = launches.run()
    assert (green, launches.decision(monday)) == (True, "allow")
    launches.at_hand.checkout.gate("sync-security", "exit 3")
    tuesday, green = launches.run()
    assert (green, launches.decision(tuesday)) == (False, "block")
    assert page(launches.instance) == ("block", False)

    again, green = launches.run(monday, ["staging_canary__summary"])

    assert not green
    assert page(launches.instance) == ("block", False)
    assert launches.decision(again) == "none"
    [step] = launches.instance.get_records_for_run(
        again, of_type=dg.DagsterEventType.STEP_FAILURE
    ).records
    event = step.event_log_entry.dagster_event
    assert event
    assert event.step_failure_data.error
    assert "is newer, and speaks for staging" in event.step_failure_data.error.to_string()
    assert launches.promoted == [str(launches.folder(monday).folder)]
    assert launches.notices == ["allow 1", "block 1"]


def test_a_block_that_is_gone_on_with_is_told_as_what_it_was_and_as_what_it_is(
    launches: Launches,
) -> None:
    launches.at_hand.staging.probes[100] = answer(500, {})
    blocked, green = launches.run()
    assert (green, launches.promoted) == (False, [])
    repeated, green = launches.run(blocked, ["staging_canary__summary"])
    assert (green, launches.decision(repeated)) == (False, "block")
    found = launches.folder(repeated)
    text = found.read_text("SUMMARY.md") or ""
    assert "this run only repeats the summary" in text
    assert "cohort 100 % failed: probe answered 500" in text
    launches.at_hand.staging.probes.clear()

    mended, green = launches.run(repeated, ["staging_cohorts.cohort_5*"])

    assert (green, launches.decision(mended)) == (True, "allow")
    assert launches.notices == ["block 1", "block 2", "allow 3"]
    assert launches.promoted == [str(found.folder)]


SUMMARY = "staging_canary__summary"


def test_a_gate_that_blocks_is_a_red_step_and_from_failure_goes_on_at_it(
    launches: Launches,
) -> None:
    launches.at_hand.checkout.gate("sync-security", "exit 3")
    blocked, green = launches.run()
    assert not green
    assert launches.red(blocked) == {
        "sync_security": "gate sync-security failed: exit code 3",
        SUMMARY: "",
    }
    [row, *_] = launches.folder(blocked).record().cohort_rows
    assert (row.status, row.reason) == ("skipped", "gates_not_passed")
    launches.at_hand.checkout.gate("sync-security", "exit 0")

    mended, green, steps = launches.from_failure(blocked)

    after = {"cohort_5", "cohort_100", "rollback", "staging_cohort_results", SUMMARY}
    assert steps == {"sync_security", "staging_gate_results", *after}
    assert (green, launches.decision(mended), launches.at_hand.percent) == (True, "allow", 100)
    assert launches.folder(mended).folder == launches.folder(blocked).folder
    # As with `canary-rollout resume`: what is being judged has changed for each of them.
    assert [launches.at_hand.checkout.runs_of(gate) for gate in GATES] == [2, 2, 2, 2]
    assert launches.notices == ["block 1", "allow 2"]


def test_a_cohort_that_blocks_is_a_red_step_and_from_failure_does_what_was_rolled_back_anew(
    launches: Launches,
) -> None:
    launches.at_hand.staging.probes[100] = answer(500, {})
    blocked, green = launches.run()
    assert (green, launches.at_hand.percent) == (False, 0)
    assert list(launches.red(blocked)) == ["cohort_100", SUMMARY]
    assert launches.plotted == [5, 100, 0]
    launches.at_hand.staging.probes.clear()

    mended, green, steps = launches.from_failure(blocked)

    assert steps == {"cohort_100", "rollback", "staging_cohort_results", SUMMARY}
    assert (green, launches.decision(mended), launches.at_hand.percent) == (True, "allow", 100)
    assert launches.at_hand.staging.probed == [5, 100, 5, 100]
    assert [launches.at_hand.checkout.runs_of(gate) for gate in GATES] == [1, 1, 1, 1]


def test_from_failure_at_another_commit_does_everything_anew(launches: Launches) -> None:
    checkout = launches.at_hand.checkout
    commit(checkout.folder)
    launches.at_hand.staging.probes[100] = answer(500, {})
    blocked, _ = launches.run()
    launches.at_hand.staging.probes.clear()
    checkout.gate("sync-security", "exit 3")
    commit(checkout.folder)

    still, green, _ = launches.from_failure(blocked)

    assert (green, launches.decision(still)) == (False, "block")
    assert [checkout.runs_of(gate) for gate in GATES] == [2, 2, 2, 2]
    assert launches.at_hand.staging.probed == [5, 100]
    checkout.gate("sync-security", "exit 0")
    commit(checkout.folder)

    mended, green, _ = launches.from_failure(still)

    assert (green, launches.decision(mended), launches.at_hand.percent) == (True, "allow", 100)
    assert [checkout.runs_of(gate) for gate in GATES] == [3, 3, 3, 3]
    assert launches.at_hand.staging.probed == [5, 100, 5, 100]


def test_from_asset_failure_goes_on_and_all_of_that_run_is_a_new_rollout(
    launches: Launches,
) -> None:
    launches.at_hand.staging.probes[100] = answer(500, {})
    blocked, _ = launches.run()
    launches.at_hand.staging.probes.clear()

    allowed, green = launches.run(blocked, **{FROM_ASSET_FAILURE_TAG: "true"})

    assert (green, launches.decision(allowed)) == (True, "allow")
    assert launches.folder(allowed).folder == launches.folder(blocked).folder
    found = launches.instance.get_run_by_id(allowed)
    assert found
    copied = {FROM_ASSET_FAILURE_TAG: found.tags[FROM_ASSET_FAILURE_TAG]}
    new, green = launches.run(allowed, **copied)
    assert (green, launches.decision(new)) == (True, "allow")
    assert launches.folder(new).folder != launches.folder(blocked).folder


def test_what_a_failed_re_execution_goes_on_with_is_not_yesterday_s_evidence(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    yesterday, _ = launches.run()
    with monkeypatch.context() as broken:
        broken.setenv("OA_STAGING_CANARY_GATE_TIMEOUT_SECONDS", "0")
        today, green = launches.run(yesterday)
        assert not green

    every = ["staging_canary__canary_env_sequence*"]
    from_failure, green = launches.run(today, every, **{FROM_FAILURE_TAG: "true"})

    assert (green, launches.decision(today)) == (True, "none")
    assert launches.folder(from_failure).folder != launches.folder(yesterday).folder
    assert launches.at_hand.checkout.runs_of("sync-security") == 2
    later, green = launches.run(today, ["staging_canary__summary"])
    assert (green, launches.decision(later)) == (False, "none")


def test_a_tag_alone_names_no_rollout_to_go_on_with(launches: Launches) -> None:
    run_id, _ = launches.run()
    use_home()
    with dg.DagsterInstance.get() as instance:
        tags = {ROLLOUT_TAG: str(launches.folder(run_id).folder)}
        stranger = create_run_for_test(instance, "staging_canary_rollout", tags=tags)

    with pytest.raises(BadInputError, match="is neither a rollout's folder nor the run id of one"):
        find_rollout(stranger.run_id)


def test_what_a_gate_said_stays_when_only_the_summary_is_repeated(launches: Launches) -> None:
    launches.at_hand.checkout.gate("sync-security", "exit 3")
    blocked, _ = launches.run()

    repeated, _ = launches.run(blocked, ["staging_canary__summary"])

    text = launches.folder(repeated).read_text("SUMMARY.md") or ""
    assert "gate sync-security failed: exit code 3" in text
    assert "no result of attempt" not in text


def test_a_run_that_is_force_terminated_stops_and_rolls_back(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OA_STAGING_CANARY_COHORT_SOAK_SECONDS", "60")
    launches.plan = launches.at_hand.settings().plan.model_dump_json()
    launches.at_hand.staging.probes[5] = launches.force_terminate

    run_id, green = launches.run()

    assert (green, launches.at_hand.percent, launches.promoted) == (False, 0, [])
    last = launches.folder(run_id).header().last_attempt
    assert last
    assert last.outcome == "aborted"
    assert (last.detail or "").startswith("force-terminated in Dagster")
    assert launches.decision(run_id) == "block"
    assert page(launches.instance) == ("block", False)
    assert "timeline" in launches.shown_of_summary
    assert launches.folder(run_id).exists(TIMELINE)


def test_a_run_that_is_force_terminated_at_its_very_end_promotes_nothing(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "RUN_LOOK_UP_SECONDS", 3600.0)
    launches.at_hand.staging.probes[100] = launches.force_terminate

    launches.run()

    assert launches.promoted == []


def test_a_storage_that_goes_away_costs_neither_the_decision_nor_the_rollback(
    launches: Launches,
) -> None:
    history, away = launches.at_hand.root / "history", launches.at_hand.root / "away"

    def take_away(handler: BaseHTTPRequestHandler) -> None:
        history.rename(away)
        history.touch()
        answer(200, GOOD)(handler)

    launches.at_hand.staging.probes[5] = take_away

    with pytest.raises(Exception, match="unable to open database file"):
        launches.run()

    history.unlink()
    away.rename(history)
    [folder] = (launches.at_hand.root / "output/canary/spacetime").iterdir()
    assert "attempt 1 crashed" in (folder / "SUMMARY.md").read_text()
    assert decision(folder) == "Decision: block"
    assert (launches.at_hand.percent, launches.promoted) == (0, [])
    assert launches.notices == ["block 1"]
