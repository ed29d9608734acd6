"""Notices are told at least once, each for itself, and never an `allow` that does not hold."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from canary_pipeline.commands.rollback import take_back
from canary_pipeline.environments import STAGING
from canary_pipeline.model.decision import Decision, Reason
from canary_pipeline.reports.notice import announce, deliver
from canary_pipeline.store.outbox import Item, Outbox
from canary_pipeline_tests.fake_staging import answer
from canary_pipeline_tests.orchestration.test_decision_sensor import Receiver, receiver
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand", "receiver"]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_PIPELINE_STATE_DIR", str(tmp_path / "state"))


def item(folder: str, decision: str = "block", *, hours: float = 0, tries: int = 0) -> Item:
    at = datetime.now(UTC) - timedelta(hours=hours)
    return Item(
        environment="staging", folder=folder, attempt=1, decision=decision,
        reasons=(("why", "rollout.json"),), run_id="r", at=at, tries=tries,
    )  # fmt: skip


def told(receiver: Receiver) -> list[tuple[str, str]]:
    return [(Path(body["folder"]).name, body["decision"]) for _, body in receiver.got]


def test_a_notice_is_told_once_and_keeps_its_id(receiver: Receiver) -> None:
    outbox = Outbox("staging")
    outbox.put(item("/a"))
    receiver.status = 500
    assert deliver("staging", receiver.url)[0] == 0
    receiver.status = 204

    assert deliver("staging", receiver.url) == (1, [])
    outbox.put(item("/a"))
    assert deliver("staging", receiver.url) == (0, [])

    assert told(receiver) == [("a", "block"), ("a", "block")]
    first, second = (body["id"] for _, body in receiver.got)
    assert first == second
    assert len(first) == 32


@pytest.mark.parametrize(
    "url", ["https://user:s3cret/Part@host/x", "https://user:[s3cret@host/x", "ftp://u:s3cret@host"]
)
def test_a_url_that_is_nobody_s_is_not_shown(url: str) -> None:
    Outbox("staging").put(item("/a"))

    with pytest.raises(
        ValueError, match=r"^no URL of a webhook or of a service that apprise knows$"
    ):
        deliver("staging", url)


def test_items_that_fail_hold_up_no_other(receiver: Receiver, tmp_path: Path) -> None:
    outbox = Outbox("staging")
    for number in range(6):
        outbox.put(item(f"/bad-{number}", hours=2, tries=1))
    (tmp_path / "state/outbox/staging/broken.json").write_text("{")
    outbox.put(item("/good"))

    deliver("staging", receiver.url)

    assert told(receiver)[0] == ("good", "block")
    deliver("staging", receiver.url)
    assert len(told(receiver)) == 7


def test_what_is_no_news_any_more_is_not_told(receiver: Receiver) -> None:
    Outbox("staging").put(item("/old", hours=25))

    assert deliver("staging", receiver.url) == (0, [])


def test_environments_are_told_apart(receiver: Receiver) -> None:
    Outbox("demo").put(item("/a"))

    assert deliver("staging", receiver.url) == (0, [])


def test_whatever_becomes_of_a_decision_is_told(at_hand: AtHand, receiver: Receiver) -> None:
    evidence, code = at_hand.roll_out("allowed")
    assert code == 0
    deliver("staging", receiver.url)

    assert take_back(evidence, at_hand.settings(), STAGING, may_raise=False) == 0
    deliver("staging", receiver.url)

    assert told(receiver) == [("allowed", "allow"), ("allowed", "rolled back")]


def test_a_withdrawal_is_told(at_hand: AtHand, receiver: Receiver) -> None:
    at_hand.staging.probes[100] = answer(500, {})
    old, _ = at_hand.roll_out("old")
    at_hand.staging.probes.clear()
    at_hand.roll_out("new")

    at_hand.resume(old, superseded=True)
    deliver("staging", receiver.url)

    assert told(receiver) == [
        ("old", "block"), ("new", "block"), ("new", "withdrawn"), ("old", "allow"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("gone", "it was allow, but its folder is gone"),
        ("edited", "gate-results.jsonl is not the file that decision.json names"),
    ],
)
def test_an_allow_that_does_not_hold_any_more_is_not_told_as_one(
    ending: str, said: str, at_hand: AtHand, receiver: Receiver
) -> None:
    evidence, _ = at_hand.roll_out("allowed")
    if ending == "gone":
        shutil.rmtree(evidence.folder)
    else:
        (evidence.folder / "gate-results.jsonl").write_text("")

    deliver("staging", receiver.url)

    [(_, body)] = receiver.got
    assert body["decision"] == "no decision"
    [reason, *_] = body["reasons"]
    assert reason["text"] == said


def test_an_allow_that_was_taken_back_before_it_was_told_is_a_block_with_its_reasons(
    at_hand: AtHand, receiver: Receiver
) -> None:
    evidence, _ = at_hand.roll_out("allowed")
    assert take_back(evidence, at_hand.settings(), STAGING, may_raise=False) == 0

    deliver("staging", receiver.url)

    first, second = (body for _, body in receiver.got)
    assert (first["decision"], second["decision"]) == ("block", "rolled back")
    because = "cohort 5 % passed, but staging was rolled back since"
    assert first["reasons"][0] == {"text": because, "evidence": "rollback-results.jsonl"}
    assert first["reasons"] == second["reasons"][1:]


def test_the_command_tells_at_its_end_and_a_deaf_receiver_changes_no_code(
    at_hand: AtHand,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OA_STAGING_CANARY_NOTIFY_URL", receiver.url)
    receiver.status = 500
    _, code = at_hand.roll_out("first")
    assert code == 0
    err = capsys.readouterr().err
    assert "a notice waits in the outbox" in err
    assert "s3cret" not in err
    receiver.status = 204

    at_hand.roll_out("second")

    assert sorted(told(receiver)[1:]) == [("first", "allow"), ("second", "allow")]


def test_a_full_disk_is_no_reason_to_stop(at_hand: AtHand, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/outbox").write_text("no folder")
    evidence, code = at_hand.roll_out("allowed")

    announce(evidence, "block", Decision((Reason("why", "rollout.json"),)))

    assert code == 0


def test_an_item_is_a_file_that_people_can_read(tmp_path: Path) -> None:
    Outbox("staging").put(item("/a"))

    [file] = (tmp_path / "state/outbox/staging").glob("*.json")
    found = json.loads(file.read_text())
    assert (found["folder"], found["decision"], found["told"]) == ("/a", "block", False)
