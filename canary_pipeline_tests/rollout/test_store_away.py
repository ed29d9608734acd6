"""The place for evidence is away for a moment: that neither fails a cohort nor stops a rollback."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from canary_pipeline.outside.open_store import open_store
from canary_pipeline.outside.process_group import Stopping
from canary_pipeline.outside.stop import Stop, StoppedError
from canary_pipeline.planning import Settings
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Cohort, Context
from canary_pipeline.rollout.live.apply import make_live
from canary_pipeline.store import publishing
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.holding import Holding
from canary_pipeline.store.journal import Owed
from canary_pipeline.store.listing import rollout_prefix
from canary_pipeline.store.published import Published
from canary_pipeline_tests.builders import add, passed, seen
from canary_pipeline_tests.conftest import await_true
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.live_staging import FAKE_APPLY, let_apply, live_in, rollback_rows
from canary_pipeline_tests.rollout.conftest import (
    FakeClock,
    asking,
    new_rollout,
    planned,
    settings_with,
)

OLDER, OURS, NEWER = (f"staging-20260225T0{hour}0000Z" for hour in (7, 8, 9))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_with(tmp_path, CANARY_APPLY_COMMAND=FAKE_APPLY)


@dataclass
class Way:
    """This host's way to what all hosts share, which is away now and then."""

    shared: Path
    path: Path

    def ends(self) -> None:
        self.path.unlink()

    def is_back(self) -> None:
        if not self.path.exists():
            self.path.symlink_to(self.shared)


@pytest.fixture
def way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    monkeypatch.setenv("CANARY_PIPELINE_CLAIM_DIR", str(tmp_path))
    way = Way(tmp_path / "shared", tmp_path / "way")
    way.shared.mkdir()
    way.is_back()
    return way


@pytest.fixture
def holding(way: Way) -> Iterator[Holding]:
    with Holding("staging", f"file://{way.path}", {"run": "run-1"}) as held:
        yield held


@pytest.fixture
def evidence(settings: Settings, holding: Holding, tmp_path: Path, clock: FakeClock) -> Evidence:
    folder = new_rollout(settings, tmp_path / "rollouts" / OURS, clock).folder
    holding.work_in(folder, new=True)
    found = Evidence(folder, settings.redactor, holding)
    attempts.join(found, "run-1", "a test", clock)
    return found


@pytest.fixture
def context(context: Context, staging: FakeStaging, tmp_path: Path) -> Context:
    let_apply(staging, tmp_path)
    return asking(context, staging)


Publish = Callable[[str], Path]


@pytest.fixture
def publish(context: Context, settings: Settings, way: Way, clock: FakeClock) -> Publish:
    """Makes a rollout that another host has published, and returns it as the store holds it.

    It is allowed.
    """

    def published(name: str) -> Path:
        folder = context.evidence.folder.with_name(name)
        evidence = new_rollout(settings, folder, clock)
        attempts.join(evidence, "run-1", "a test", clock)
        add(evidence, *passed(context.plan, live=seen(5)))
        evidence.update_header(lambda header: header.model_copy(update={"live_before": seen(0)}))
        conclude(Context(context.plan, evidence, context.control, 1, "run-1"), "finished")
        assert written_decision(evidence) == "allow"
        prefix = rollout_prefix("staging", name)
        assert Published(folder, open_store(f"file://{way.shared}"), prefix).publish_all()
        shutil.rmtree(folder)
        return way.shared / prefix

    return published


def percent(tmp_path: Path) -> int:
    return int(live_in(tmp_path / "live.env")["data"]["canary_user_percent"])


def test_a_cohort_waits_for_a_store_that_is_away(
    context: Context, publish: Publish, way: Way, clock: FakeClock, tmp_path: Path
) -> None:
    newer = publish(NEWER)
    way.ends()
    clock.while_asleep = way.is_back

    assert make_live(Cohort(5, context)).problem is None

    assert percent(tmp_path) == 5
    assert written_decision(Evidence(newer)) == "block"


def test_nothing_is_applied_that_no_other_host_could_take_back(
    context: Context, way: Way, tmp_path: Path
) -> None:
    published = way.shared / rollout_prefix("staging", OURS) / "rollout.json"
    published.unlink()
    published.mkdir()  # nothing can be written there

    result = make_live(Cohort(5, context))

    assert result.problem == "apply_failed"
    assert result.detail
    assert "the evidence store has not taken rollout.json for 90 s" in result.detail
    assert percent(tmp_path) == 0


def test_a_cohort_that_waits_for_a_store_can_be_stopped(
    context: Context, way: Way, clock: FakeClock, tmp_path: Path
) -> None:
    stop = Stop()
    way.ends()
    clock.while_asleep = lambda: stop.request("somebody asked")

    with pytest.raises(StoppedError, match="somebody asked"):
        make_live(Cohort(5, replace(context, check_stop=stop.check)))

    assert percent(tmp_path) == 0


def test_staging_is_restored_although_the_store_is_away_and_the_newer_rollout_is_withdrawn_later(
    context: Context, publish: Publish, way: Way, tmp_path: Path
) -> None:
    assert make_live(Cohort(5, context)).problem is None
    newer = publish(NEWER)

    def go_away() -> str:
        await_true(lambda: context.evidence.exists("decision.json"))
        way.ends()
        return ""

    context.stopping.append(Stopping(go_away))  # is waited for before staging is restored
    comes_back = f"ln -s '{way.shared}' '{way.path}'; {FAKE_APPLY}"

    conclude(planned(context, rollback_command=comes_back), "aborted", "a test")

    assert percent(tmp_path) == 0
    [row] = rollback_rows(context.evidence.folder)
    assert (row["status"], context.evidence.header().restoring) == ("passed", False)
    put_off, withdrawn = (each.message for each in context.evidence.record().warnings)
    assert put_off.startswith("what a newer rollout has decided is withdrawn once staging is")
    assert withdrawn.endswith(f"{NEWER} is newer; what it has decided is withdrawn")
    assert written_decision(Evidence(newer)) == "block"


def test_staging_is_restored_although_the_store_has_no_room_for_a_decision(
    context: Context,
    holding: Holding,
    way: Way,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "CUT_OFF_SECONDS", 1)
    assert make_live(Cohort(5, context)).problem is None
    (way.shared / rollout_prefix("staging", OURS) / "SUMMARY.md").mkdir()

    decision = conclude(context, "aborted", "a test")

    assert (decision.word, percent(tmp_path), holding.owed) == ("block", 0, None)
    [why] = [each.text for each in decision.reasons if "SUMMARY.md" in each.text]
    assert "staging was restored: users 0 %" in why


def test_what_was_allowed_on_another_host_that_died_before_it_could_say_so_is_not_owed(
    context: Context, publish: Publish, holding: Holding, tmp_path: Path
) -> None:
    allowed = publish(OLDER)
    owed = Owed(folder=Path(allowed.name), percent=100, before=seen(0))
    holding.owe(owed.model_dump(mode="json"))
    (tmp_path / "live.env").write_text("OA_RUNTIME_CANARY_USER_PERCENT=100\n")

    assert make_live(Cohort(5, context)).problem is None

    before = context.evidence.header().live_before
    assert before
    assert before.user_percent == 100


@pytest.mark.parametrize("published", [OLDER, NEWER])
def test_what_a_rollout_owes_is_owed_although_it_is_withdrawn_now(
    published: str, context: Context, publish: Publish, holding: Holding
) -> None:
    dead = Evidence(publish(published))
    dead.update_header(lambda header: header.with_last_attempt(outcome=None))
    owed = Owed(folder=Path(published), percent=100, before=seen(3))
    holding.owe(owed.model_dump(mode="json"))

    assert make_live(Cohort(5, context)).problem is None

    assert context.evidence.header().live_before == seen(3)
