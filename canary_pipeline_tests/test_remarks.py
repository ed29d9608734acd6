"""An allow that is less than it seems says so wherever its word is read."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from canary_pipeline.commands.history import plain_lines
from canary_pipeline.model.decision import decide
from canary_pipeline.orchestration.pages import decision_metadata, verdict
from canary_pipeline.reports.history import past_rollouts
from canary_pipeline_tests.orchestration.test_decision_sensor import Receiver, receiver
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand", "receiver"]


@dataclass(frozen=True)
class Less:
    """A rollout that is less than it might be, and what is said of it."""

    unset: tuple[str, ...]
    flags: dict[str, str]
    remark: str
    last: str


@pytest.mark.parametrize(
    "less",
    [
        Less(
            ("CONTROL_BASE_URL", "CONTROL_AUTH_TOKEN", "CANARY_APPLY_COMMAND"),
            {},
            "no cohort was probed: neither control base URL nor token is configured",
            "Decision: allow (no cohort was probed)",
        ),
        Less((), {"cohorts": "5"}, "reduced: cohort 5 of 5,10,25,50,100", "Decision: allow"),
    ],
    ids=["unprobed", "reduced"],
)
def test_an_allow_says_wherever_it_is_read_what_was_left_out(
    less: Less,
    at_hand: AtHand,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    remark = less.remark
    for name in less.unset:
        monkeypatch.delenv(f"OA_STAGING_{name}")
    monkeypatch.setenv("OA_STAGING_CANARY_NOTIFY_URL", receiver.url)

    evidence, code = at_hand.roll_out("r", **less.flags)

    assert code == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [remark, less.last]
    name, _, said = remark.partition(":")
    _, _, first, *_ = (evidence.read_text("SUMMARY.md") or "").splitlines()
    assert first == f"**{name.capitalize()}**:{said}."
    [(_, told)] = receiver.got
    assert told["title"] == f"staging canary rollout: allow ({remark})"
    assert told["remarks"] == [remark]
    assert told["message"].splitlines()[0] == remark
    record = evidence.verified_record()
    decision = decide(record)
    assert verdict(decision, record).endswith(f"; {remark}.")
    page = str(decision_metadata(evidence, decision)["summary"].value)
    assert page.startswith(f"**Decision: allow; {remark}**")
    past = past_rollouts(Path(evidence.folder).parent)
    assert past[0].to_json_object()["remarks"] == [remark]
    assert remark in plain_lines(past)[1]
