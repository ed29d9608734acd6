"""Whole rollouts that watch staging while it soaks: every fault of the stand-in, and kills."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.model.decision import decide
from canary_pipeline.planning import LaunchConfig, resolve
from canary_pipeline.settings import SettingError
from canary_pipeline.store import layout, seal
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.conftest import (
    CORE,
    TOKEN,
    Checkout,
    Commands,
    await_true,
    cohort_rows,
    decision,
    gate_rows,
    rows,
    statuses,
)
from canary_pipeline_tests.fake_staging import Behaviour, FakeStaging, answer, send
from canary_pipeline_tests.live_staging import (
    APPLY_VARIABLE,
    FAKE_APPLY,
    LiveStaging,
    let_apply,
    live_staging,
    section,
)

LIMITS = (
    "+mirror.failed_total<=0, +delivery.dropped_messages_total<=0, "
    "delivery.max_replay_lag<=500, +delivery.total_polls>=1"
)
WATCHED = {
    "OA_STAGING_CANARY_COHORTS": "5,25",
    "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "4",
    "OA_STAGING_CANARY_WATCH_SECONDS": "1",
}
LIMITED = {**WATCHED, "OA_STAGING_CANARY_LIMITS": LIMITS}


NewLive = Callable[[str], LiveStaging]


@pytest.fixture
def new_live(commands: Commands, tmp_path: Path) -> Iterator[NewLive]:
    with ExitStack() as stack:
        yield lambda fault: stack.enter_context(live_staging(commands, tmp_path / "live", fault))


def looks(folder: Path, percent: int) -> list[dict[str, Any]]:
    return rows(folder, layout.health(percent))


def counting(name: str = "polls_total", step: float = 1) -> Behaviour:
    """Metrics with a number that has grown whenever it is asked for."""
    asked = iter(range(10**6))
    return lambda handler: send(handler, 200, {name: step * next(asked)})


# -- the stand-in's faults --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "percent", "reason", "says"),
    [
        ("errors-at-25", 25, "limit_exceeded",
         r"mirror\.failed_total rose by \d+ in \d s; at most 0"),
        ("lag-at-25", 25, "limit_exceeded",
         r"no good look for \d s: delivery\.max_replay_lag is [34]\d{3}; at most 500"),
        ("metrics-vanish-at-25", 25, "health_unknown", r"the metrics answered 503 for \d s"),
        ("crash-loop-at-25", 25, "health_unknown",
         r"\S+ fell from \d+ to \d+: restarted, or several instances answer"),
        ("frozen-metrics", 5, "limit_exceeded",
         r"delivery\.total_polls rose by 0 in \d s; at least 1"),
        ("dip-at-25", 25, "percent_drifted",
         r"live is users 0 %.*; wanted users 25 %.*, at two looks in a row"),
        ("drift", 25, "percent_drifted", r"live is users 0 %.*; wanted users 25 %"),
        ("control-dies-at-25", 25, "probe_failed_in_soak",
         r"evaluate answered 503, at two looks in a row"),
    ],
)  # fmt: skip
def test_a_fault_in_a_soak_blocks_with_a_sentence_and_is_rolled_back(
    fault: str, percent: int, reason: str, says: str, new_live: NewLive
) -> None:
    live, needs_limits = new_live(fault), reason in ("limit_exceeded", "health_unknown")

    settings = LIMITED if needs_limits else WATCHED
    result = live.commands.rollout("--cohorts", str(percent), more=settings)

    assert result.code == 1, result.out + result.err
    [folder] = live.commands.folders
    [row] = [row for row in cohort_rows(folder) if row["status"] == "failed"]
    assert (row["cohort_percent"], row["reason"]) == (percent, reason)
    assert re.search(says, row["error"])
    told = f"cohort {percent} % failed: {reason}: {row['error']}"
    assert f"{told} (evidence: `health-{percent}.jsonl`)" in section(folder, "Why")
    assert live.percent == 0


@pytest.mark.slow
def test_without_limits_what_is_measured_is_recorded_and_shown_and_blocks_nothing(
    new_live: NewLive,
) -> None:
    live = new_live("errors-at-25")

    result = live.commands.rollout(more=WATCHED)

    assert result.code == 0, result.out + result.err
    [folder] = live.commands.folders
    seen = [look["numbers"]["mirror.failed_total"] for look in looks(folder, 25)]
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
    rose = f"mirror.failed_total by {seen[-1] - seen[0]:.0f}"
    assert rose in section(folder, "Health").partition("Cohort 25 %")[2]


# -- what was written -------------------------------------------------------------------------


@pytest.fixture
def watched(commands: Commands, staging: FakeStaging) -> Commands:
    """Commands whose staging has healthy metrics that soaks are judged by."""
    staging.snapshots["/metrics"] = counting()
    limits = {"OA_STAGING_CANARY_LIMITS": "+polls_total>=1, +polls_total<=1000"}
    commands.environment.update({**WATCHED, **limits, "OA_STAGING_CANARY_COHORTS": "5"})
    commands.environment["OA_STAGING_CANARY_COHORT_SOAK_SECONDS"] = "2"
    return commands


def rechained(lines: list[dict[str, Any]]) -> bytes:
    """Rows whose links are right, whoever wrote them."""
    data = b""
    for line in lines:
        line.pop("chain")
        data += seal.sealed_line(line, seal.last_link(data))
    return data


def edited(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*lines[:-1], {**lines[-1], "numbers": {"polls_total": 5000.0}}]


def test_a_health_file_that_somebody_has_edited_blocks(watched: Commands) -> None:
    assert watched.rollout().code == 0
    [folder] = watched.folders
    file, row_file = folder / "health-5.jsonl", folder / "cohort-results.jsonl"
    original, row = file.read_bytes(), cohort_rows(folder)[0]
    lines = [json.loads(line) for line in original.splitlines()]

    def reasons(data: bytes, *, with_row: bool = False) -> str:
        file.write_bytes(data)
        if with_row:
            digest = Evidence(folder).sha256(file.name)
            row_file.write_bytes(rechained([{**row, "health_sha256": digest}]))
        return "; ".join(item.text for item in decide(Evidence(folder).verified_record()).reasons)

    digest = "health-5.jsonl is missing or is not the file that its row was written for"
    assert reasons(original) == ""
    assert "line 1 is not as it was written" in reasons(original.replace(b"200", b"201", 1))
    assert reasons(rechained(edited(lines))).startswith(digest)
    lines = [json.loads(line) for line in original.splitlines()]
    assert reasons(rechained(lines[:-1])).startswith(digest)
    lines = [json.loads(line) for line in original.splitlines()]
    assert "shows limit_exceeded, and its cohort passed" in reasons(
        rechained(edited(lines)), with_row=True
    )
    assert "holds no look, and its cohort passed" in reasons(b"", with_row=True)
    assert watched.resume(folder).code == 1


def test_a_killed_soak_goes_on_with_its_looks_and_nobody_can_loosen_its_limits(
    watched: Commands, staging: FakeStaging
) -> None:
    process = watched.start_rollout("--cohort-soak-seconds", "6")
    await_true(lambda: watched.folders and len(looks(watched.folders[0], 5)) >= 2)
    watched.kill(process)
    [folder] = watched.folders

    loosened = {"OA_STAGING_CANARY_LIMITS": "+polls_total<=999999"}
    result = watched.resume(folder, more=loosened)

    assert result.code == 0, result.out + result.err
    seen = looks(folder, 5)
    assert {look["soak"] for look in seen} == {1}
    assert [look["number"] for look in seen] == list(range(1, len(seen) + 1))
    assert {look["attempt"] for look in seen} == {1, 2}
    assert json.loads((folder / "rollout.json").read_text())["limits"] == [
        "+polls_total>=1", "+polls_total<=1000",
    ]  # fmt: skip
    assert len(staging.probed) < len(seen) + 3


def test_what_was_written_before_a_kill_is_judged_first(
    watched: Commands, staging: FakeStaging
) -> None:
    process = watched.start_rollout("--cohort-soak-seconds", "60")
    await_true(lambda: watched.folders and len(looks(watched.folders[0], 5)) >= 2)
    watched.kill(process)
    [folder] = watched.folders
    file = folder / "health-5.jsonl"
    written = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_bytes(rechained(edited(written)))
    staging.seen.clear()

    result = watched.resume(folder)

    assert result.code == 1
    assert statuses(folder) == [(5, "failed", "limit_exceeded")]
    assert staging.probed == []


@pytest.mark.slow
def test_a_kill_at_any_moment_of_a_look_leaves_a_soak_that_comes_out_the_same(
    watched: Commands,
) -> None:
    forked = watched.core
    whole = forked.run(watched.folder, watched.environment, "run", kill_at=0)
    assert whole.code == 0, whole.out
    moments = [n for n, what in enumerate(whole.moments, 1) if "health-5.jsonl" in what]
    assert len(moments) >= 6
    for moment in moments[:5]:
        watched.folder = watched.folder.parent / f"killed-{moment}"
        watched.folder.mkdir()
        forked.run(watched.folder, watched.environment, "run", kill_at=moment)
        [folder] = watched.folders
        ended = forked.run(watched.folder, watched.environment, "resume", str(folder))
        assert ended.code == 0, (whole.moments[moment - 1], ended.out)
        assert decision(folder) == "Decision: allow"


# -- before the soak --------------------------------------------------------------------------


def test_a_staging_that_is_sick_before_is_told_so_and_nothing_is_applied(
    watched: Commands, staging: FakeStaging, checkout: Checkout
) -> None:
    let_apply(staging, checkout.folder)
    staging.snapshots["/metrics"] = answer(200, {"polls": 1, "lag": 4000})
    more = {APPLY_VARIABLE: FAKE_APPLY, "OA_STAGING_CANARY_LIMITS": "lag<=500, +polls>=1"}

    result = watched.rollout(more=more)

    assert result.code == 1
    [folder] = watched.folders
    [row] = cohort_rows(folder)
    assert row["reason"] == "limit_exceeded"
    why = "staging was sick before anything was applied: lag is 4000; at most 500"
    assert row["error"] == why
    assert not (checkout.folder / "live.env").exists()


def test_a_name_that_staging_does_not_have_is_told_before_the_gates_run(
    watched: Commands,
) -> None:
    result = watched.rollout(more={"OA_STAGING_CANARY_LIMITS": "+pols_total<=5"})

    assert result.code == 1
    [folder] = watched.folders
    warning = rows(folder, "warnings.jsonl")[0]
    assert warning["message"] == "+pols_total<=5: no such name pols_total; near: polls_total"
    assert warning["at"] <= min(row["started_at"] for row in gate_rows(folder))
    [row] = cohort_rows(folder)
    assert (row["reason"], row["error"]) == (
        "health_unknown", "no such name pols_total; near: polls_total",
    )  # fmt: skip


def test_a_dry_run_watches_to_the_end_and_does_not_judge(watched: Commands) -> None:
    limits = {"OA_STAGING_CANARY_LIMITS": "+polls_total<=0"}

    result = watched.rollout("--skip-gates", more=limits)

    assert result.code == 1
    [folder] = watched.folders
    assert statuses(folder) == [(5, "passed", None)]
    assert cohort_rows(folder)[0]["soaked_seconds"] >= 2
    assert section(folder, "Why").count("\n- ") == 1, "the gates were skipped, and nothing else"
    assert "limit_exceeded: polls_total rose by" in section(folder, "Warnings")


def test_a_soak_that_is_shorter_than_an_interval_takes_no_look(
    watched: Commands, staging: FakeStaging
) -> None:
    more = {"OA_STAGING_CANARY_LIMITS": "", "OA_STAGING_CANARY_WATCH_SECONDS": "3"}

    assert watched.rollout(more=more).code == 0

    [folder] = watched.folders
    assert not (folder / "health-5.jsonl").exists()
    assert staging.probed == [5]


BASE = {
    "OA_STAGING_CONTROL_BASE_URL": "http://127.0.0.1:9",
    "OA_STAGING_CONTROL_AUTH_TOKEN": TOKEN,
    "OA_RUNTIME_METRICS_URL": "http://127.0.0.1:9/m",
    "OA_STAGING_CANARY_LIMITS": "+a<=1",
}
NO_PROBES = ("OA_STAGING_CONTROL_BASE_URL", "OA_STAGING_CONTROL_AUTH_TOKEN")


@pytest.mark.parametrize(
    ("unset", "more", "soak", "says"),
    [
        (("OA_RUNTIME_METRICS_URL",), {}, None, "OA_STAGING_CANARY_LIMITS is '+a<=1'"),
        (NO_PROBES, {}, None, "none without the runtime metrics URL"),
        ((), {"OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "14"}, None,
         "OA_STAGING_CANARY_COHORT_SOAK_SECONDS is 14 s; accepted: at least the 15 s"),
        ((), {}, 0, "resources.rollout.config.cohort_soak_seconds is 0 s"),
        ((), {"OA_STAGING_CANARY_LIMITS": "a>=1"}, None, "OA_STAGING_CANARY_LIMITS is 'a>=1'"),
    ],
)  # fmt: skip
def test_limits_that_could_not_be_judged_are_refused(
    unset: tuple[str, ...], more: dict[str, str], soak: int | None, says: str
) -> None:
    variables = {name: value for name, value in BASE.items() if name not in unset}

    with pytest.raises(SettingError, match=re.escape(says)):
        resolve(STAGING, {**variables, **more}, launch=LaunchConfig(soak_seconds=soak))


def test_a_refusal_writes_nothing(watched: Commands) -> None:
    result = watched.rollout("--cohort-soak-seconds", "0")

    assert result.code == 2
    assert "--cohort-soak-seconds is 0 s" in result.err
    assert watched.folders == []


# -- afterwards -------------------------------------------------------------------------------


def test_past_soaks_propose_limits(watched: Commands) -> None:
    def history(*arguments: str) -> Any:
        return watched.run(*CORE, "history", "--limits", *arguments)

    assert history().out == "no passed soak that was looked at\n"
    assert [watched.rollout().code for _ in range(2)] == [0, 0]
    assert watched.rollout("--skip-gates").code == 1
    polls = [
        [look["numbers"]["polls_total"] for look in looks(folder, 5)]
        for folder in watched.folders[:2]
    ]

    result = history()

    assert result.out.splitlines() == [
        "cohort 5 %, the largest growths in 2 passed soaks of 2 s; "
        "a healthy soak exceeds one with probability at most 1/3:",
        f"  +polls_total<={max(seen[-1] - seen[0] for seen in polls):.0f}",
        "a limit holds for every cohort: take the largest",
    ]
    assert history("--json").code == 2


ENVIRONMENTS = """name = "staging"
title = "Rollouts"
cohorts = [5]
soak_seconds = 2
watch_seconds = 1
limits = "+polls_total>=1"
control_base_url = "{url}"
runtime_metrics_url = "{url}/metrics"
[gates]
one = "true"
[environments.staging]
[environments.staging-eu]
"""


def test_limits_are_proposed_for_each_environment_from_its_own_soaks(
    watched: Commands, staging: FakeStaging
) -> None:
    file = watched.folder / "canary.toml"
    file.write_text(ENVIRONMENTS.format(url=staging.url))
    watched.environment |= {
        "OA_CANARY_ENVIRONMENTS": str(file), "OA_STAGING_EU_CONTROL_AUTH_TOKEN": TOKEN
    }  # fmt: skip
    for name in ("staging", "staging-eu", "staging-eu"):
        assert watched.rollout("--environment", name).code == 0

    of_all = watched.run(*CORE, "history", "--limits").out.splitlines()
    of_one = watched.run(*CORE, "history", "--limits", "--environment", "staging-eu").out

    assert [of_all[0], of_all[4]] == ["staging:", "staging-eu:"]
    assert "in 1 passed soak of 2 s; a healthy soak exceeds one with probability" in of_all[1]
    assert of_all[1].endswith(" at most 1/2:")
    assert "in 2 passed soaks of 2 s; " in of_all[5]
    assert of_all[5:] == of_one.splitlines()
