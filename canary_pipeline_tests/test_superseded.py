"""An older rollout never speaks over a newer one, and what it does to staging is told of that."""

import dagster as dg
import pytest

from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.commands.rollback import take_back
from canary_pipeline.environments import STAGING
from canary_pipeline.model.decision import decide
from canary_pipeline.orchestration.runs import DECISION_TAG, tell_decision
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.history import read_rollout
from canary_pipeline.rollout.superseded import SupersededError
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal
from canary_pipeline_tests.fake_staging import answer
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand"]

SUMMARY = dg.AssetKey(["staging_canary", "summary"])


@pytest.fixture
def old(at_hand: AtHand) -> Evidence:
    """A rollout that blocked at its second cohort, and was rolled back."""
    at_hand.staging.probes[100] = answer(500, {})
    evidence, code = at_hand.roll_out("old")
    assert (code, at_hand.percent) == (1, 0)
    at_hand.staging.probes.clear()
    return evidence


@pytest.fixture
def new(old: Evidence, at_hand: AtHand) -> Evidence:
    """A newer one, which is allowed."""
    assert written_decision(old) == "block"
    evidence, code = at_hand.roll_out("new")
    assert (code, at_hand.percent) == (0, 100)
    return evidence


def test_an_older_rollout_is_worked_on_only_if_asked_twice(
    old: Evidence, new: Evidence, at_hand: AtHand
) -> None:
    both = f"{new.folder} is newer.*resume --superseded.*, and withdraws what that one has decided"
    with pytest.raises(SupersededError, match=both):
        at_hand.resume(old)
    old.update_header(lambda header: header.model_copy(update=new_live(new)))
    with pytest.raises(SupersededError, match="rollback --superseded"):
        take_back(old, at_hand.settings(), STAGING, may_raise=False)

    assert (at_hand.percent, written_decision(new)) == (100, "allow")


def new_live(new: Evidence) -> dict[str, object]:
    """As an older version's header would say that something of it is live."""
    header = new.header()
    return {"live_before": header.live_before, "applied_percent": 100}


def test_an_older_one_that_changes_staging_withdraws_what_the_newer_one_decided(
    old: Evidence, new: Evidence, at_hand: AtHand
) -> None:
    at_hand.staging.probes[100] = answer(500, {})

    assert at_hand.resume(old, superseded=True) == 1

    why = "withdrawn: old, which is older, has changed staging since"
    assert decide(new.verified_record()).reasons[0].text == why
    assert written_decision(new) == "block"
    assert why in (new.folder / "SUMMARY.md").read_text()
    assert read_rollout(new).decision == "block"


def test_a_withdrawn_rollout_that_goes_on_does_everything_anew(
    old: Evidence, new: Evidence, at_hand: AtHand
) -> None:
    at_hand.resume(old, superseded=True)
    runs, probes = at_hand.checkout.runs_of("sync-security"), len(at_hand.staging.probed)

    assert at_hand.resume(new) == 0

    assert at_hand.checkout.runs_of("sync-security") == runs + 1
    assert at_hand.staging.probed[probes:] == [5, 100]
    assert new.header().withdrawn is None
    assert written_decision(new) == "allow"


def test_one_that_only_asks_withdraws_nothing(
    at_hand: AtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OA_STAGING_CANARY_APPLY_COMMAND")
    first, _ = at_hand.roll_out("first")
    second, _ = at_hand.roll_out("second")
    with pytest.raises(SupersededError, match=r"goes on with this one all the same$"):
        at_hand.resume(first)

    assert at_hand.resume(first, superseded=True) == 0

    assert written_decision(second) == "allow"


def test_what_an_older_one_owes_is_rolled_back_without_being_asked_twice(
    at_hand: AtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OA_STAGING_CANARY_ON_BLOCK", "hold")
    at_hand.staging.probes[5] = answer(500, {})
    held, _ = at_hand.roll_out("held")
    at_hand.checkout.gate("sync-security", "exit 1")
    at_hand.roll_out("blocked by a gate")
    assert at_hand.percent == 5

    assert take_back(held, at_hand.settings(), STAGING, may_raise=False) == 0

    assert at_hand.percent == 0
    assert Journal("staging").read().owed is None


def test_a_rollback_by_hand_after_allow_is_reported_anew(new: Evidence, at_hand: AtHand) -> None:
    use_home()
    with dg.DagsterInstance.get() as instance:
        tell_decision(instance, STAGING, new, decide(new.verified_record()))
        assert page(instance) == ("allow", True)

    assert take_back(new, at_hand.settings(), STAGING, may_raise=False) == 0

    assert at_hand.percent == 0
    with dg.DagsterInstance.get() as instance:
        assert page(instance) == ("block", False)


def test_the_page_speaks_of_the_newest_rollout(
    old: Evidence, new: Evidence, at_hand: AtHand
) -> None:
    run = dg.DagsterRun("staging_canary_rollout", run_id=new.header().run_ids[-1])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_run(run)
        tell_decision(instance, STAGING, old, decide(old.verified_record()))
        assert page(instance) == ("allow", True)
        at_hand.resume(old, superseded=True)
        assert written_decision(old) == "allow"
        tell_decision(instance, STAGING, old, decide(old.verified_record()))

        assert page(instance) == ("block", False)
        found = instance.get_run_by_id(run.run_id)
        assert found
        assert found.tags[DECISION_TAG] == "block"


def page(instance: dg.DagsterInstance) -> tuple[object, object]:
    """The decision on the page of `summary`, and whether its check passed."""
    event = instance.get_latest_materialization_event(SUMMARY)
    assert event
    assert event.asset_materialization
    key = dg.AssetCheckKey(SUMMARY, "go_no_go")
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    found = [check.evaluation for check in history]
    passed = next(each.passed for each in found if isinstance(each, dg.AssetCheckEvaluation))
    return event.asset_materialization.metadata["decision"].value, passed
