"""What an asset's page shows of a rollout, and that its numbers can be plotted."""

import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

import dagster as dg
import pytest

from canary_pipeline_tests.conftest import GATES, Checkout, Commands, InProcess
from canary_pipeline_tests.fake_staging import FakeStaging, answer


def metadata(name: str) -> dict[str, Any]:
    """The metadata of an asset's last materialization."""
    key = dg.AssetKey(["staging_canary", name])
    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(key)
    assert event
    assert event.asset_materialization
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def picture(markdown: str) -> bytes:
    """The PNG that a page shows."""
    return b64decode(markdown.removeprefix("![](data:image/png;base64,").removesuffix(")"))


def test_the_summary_s_page_tells_the_decision_first_and_shows_the_timeline(
    in_process: InProcess,
) -> None:
    assert in_process.job({"cohorts": [5]})

    found = metadata("summary")
    [folder] = in_process.commands.folders
    text = (folder / "SUMMARY.md").read_text()
    heading = "Decision: allow; reduced: cohort 5 of 5,10,25,50,100"
    assert found["summary"] == f"**{heading}**\n\n{text}"
    assert (found["decision"], found["allowed"], found["reasons"]) == ("allow", 1, 0)
    assert 0 < found["duration_seconds"] < 120
    assert found["path"] == str(folder / "SUMMARY.md")
    assert found["size_bytes"] == len(text.encode())
    assert found["sha256"] == sha256(text.encode()).hexdigest()
    png = picture(found["timeline"])
    assert png.startswith(b"\x89PNG")
    assert (folder / "timeline.png").read_bytes() == png


def test_a_picture_that_cannot_be_drawn_changes_no_decision(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("no pencil")

    monkeypatch.setattr("canary_pipeline.reports.timeline.timeline", fail)

    assert in_process.job({"cohorts": [5]})

    assert metadata("summary")["decision"] == "allow"
    assert "timeline" not in metadata("summary")


def test_numbers_that_people_follow_have_a_key_each(
    in_process: InProcess, staging: FakeStaging
) -> None:
    staging.probes[10] = answer(500, {})
    in_process.job({"cohorts": [5, 10]})

    gates, cohorts = metadata("gate_results"), metadata("cohort_results")
    for gate in GATES:
        assert isinstance(gates[f"duration_seconds/{gate}"], float)
    assert gates["failures"] == 0
    assert {name for name in cohorts if name.startswith("probe_seconds/")} == {
        "probe_seconds/5", "probe_seconds/10",
    }  # fmt: skip
    assert cohorts["probe_seconds/5"] > 0
    assert cohorts["failures"] == 1
    assert metadata("summary")["allowed"] == 0


def test_a_failing_gate_s_last_lines_are_on_the_page_of_the_logs(
    in_process: InProcess, checkout: Checkout
) -> None:
    checkout.gate("sync-security", "seq 100; echo the door is open; exit 3")

    in_process.job({"cohorts": [5]})

    found = metadata("logs")
    tail = found["tail/sync-security"]
    assert "the door is open" in tail
    assert "100" in tail
    assert "\n1\n" not in tail
    assert [name for name in found if name.startswith("tail/")] == ["tail/sync-security"]
    [folder] = in_process.commands.folders
    files = {record.data["file"]: record.data for record in found["files"].records}
    log = folder / "logs/gate-sync-security.log"
    assert len(files) == len(GATES)
    assert files["logs/gate-sync-security.log"] == {
        "file": "logs/gate-sync-security.log",
        "size_bytes": log.stat().st_size,
        "sha256": sha256(log.read_bytes()).hexdigest(),
    }


def test_snapshots_are_a_table_of_what_changed(in_process: InProcess) -> None:
    assert in_process.job({"cohorts": [5]})

    table = metadata("runtime_metrics")["changes"]
    assert [column.name for column in table.schema.columns] == [
        "span", "value", "before", "after", "change",
    ]  # fmt: skip
    assert {record.data["span"] for record in table.records} == {"rollout", "cohort 5"}
    files = [record.data["file"] for record in metadata("runtime_metrics")["files"].records]
    moments = ("before", "before_5", "after_5", "after")
    assert files == [f"runtime_metrics_{moment}.json" for moment in moments]


def test_limited_numbers_can_be_followed_and_their_soaks_are_a_picture(
    in_process: InProcess, staging: FakeStaging
) -> None:
    staging.snapshots["/metrics"] = answer(200, {"lag": 7, "failed_total": 3})
    watched = {
        "OA_STAGING_CANARY_WATCH_SECONDS": "1",
        "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "1",
        "OA_STAGING_CANARY_LIMITS": "lag<=9, +failed_total<=0",
    }

    assert in_process.job({"cohorts": [5, 10]}, **watched)

    found = metadata("runtime_metrics")
    assert {name: found[name] for name in found if "/" in name} == {
        "level/lag/5": 7.0, "growth/failed_total/5": 0.0,
        "level/lag/10": 7.0, "growth/failed_total/10": 0.0,
    }  # fmt: skip
    assert picture(found["soaks"]).startswith(b"\x89PNG")


@pytest.mark.slow
def test_past_rollouts_are_a_table_and_a_picture(commands: Commands) -> None:
    assert commands.rollout("--cohorts", "5").code == 0
    assert commands.rollout("--cohorts", "5", "--skip-gates").code == 1

    result = commands.run(
        "dagster", "asset", "materialize", "-m", "canary_pipeline",
        "--select", "staging_canary_history",
    )  # fmt: skip

    assert result.code == 0, result.err[-2000:]
    home = commands.environment["DAGSTER_HOME"]
    with dg.DagsterInstance.from_config(home) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("staging_canary_history"))
    assert event
    assert event.asset_materialization
    found = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (found["rollouts"], found["allowed"], found["blocked"]) == (2, 1, 1)
    records: Any = found["history"]
    decisions = [record.data["decision"] for record in records.records]
    assert decisions == ["block", "allow"]
    assert "skipped" in json.dumps(records.records[0].data)
    assert picture(str(found["trend"])).startswith(b"\x89PNG")
