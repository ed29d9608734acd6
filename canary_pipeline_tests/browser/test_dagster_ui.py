"""What release engineers do in the Dagster UI, done in a browser, against a real `dagster dev`."""

import re

import pytest

from canary_pipeline_tests.browser.chromium import require_browser

require_browser()

from playwright.sync_api import expect  # noqa: E402 - there may be no Playwright

from canary_pipeline_tests.browser.conftest import Served  # noqa: E402
from canary_pipeline_tests.browser.dagster_ui import (  # noqa: E402
    ASSET_GROUP,
    SCHEDULE,
    SHOWN_WITHIN,
    DagsterUI,
    Seen,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(300),  # the first test waits for `dagster dev` and the browser too
    pytest.mark.xdist_group("browser"),  # one `dagster dev` for all
]

ASSETS = (
    "canary_env_sequence",
    "gate_results",
    "logs",
    "cohort_results",
    "runtime_metrics",
    "control_status",
    "summary",
)

STEPS = (
    "canary_env_sequence",
    "spacetime_provision_staging",
    "spacetime_replay_resume",
    "spacetime_chaos",
    "sync_security",
    "cohort_5",
    "cohort_25",
    "cohort_100",
    "summary",
)

DEPLOYMENT = {
    "/deployment/locations": "canary_pipeline",
    "/deployment/daemons": "Scheduler",
    "/deployment/config": "run_coordinator",
}

QUICK = "cohorts: [5], cohort_soak_seconds: 0"
ALL_COHORTS = "cohort_soak_seconds: 1"
DRY = f"{QUICK}, skip_gates: true"

TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")


def test_a_launch_with_untouched_config_is_followed_from_gates_to_success(ui: DagsterUI) -> None:
    ui.launchpad()
    ui.picture("launchpad")
    ui.launch()

    ui.sees_status("Success")
    ui.steps()
    ui.list_succeeded()
    for name in STEPS:
        ui.sees_step(name)
    ui.picture("run-timeline")


def test_the_summary_that_people_promote_on_is_read_on_its_asset_s_page(ui: DagsterUI) -> None:
    ui.roll_out(ALL_COHORTS, "Success")

    ui.asset("summary")
    ui.row("summary").get_by_text("[Show Markdown]").click(timeout=SHOWN_WITHIN)
    dialog = ui.page.get_by_role("dialog")
    ui.sees(dialog.get_by_text("Decision: allow").last)
    heading = dialog.get_by_role("heading", name="Staging Spacetime Canary Rollout Summary")
    heading.scroll_into_view_if_needed()
    ui.sees(heading)
    ui.picture("summary")

    ui.asset("summary", "Checks")
    ui.sees_all(["go_no_go", "Passed"])

    ui.asset("summary")
    ui.row("timeline").get_by_text("[Show Markdown]").click(timeout=SHOWN_WITHIN)
    timeline = ui.page.get_by_role("dialog").locator("img")
    ui.sees(timeline)
    assert timeline.evaluate("image => image.naturalWidth") > 500
    ui.picture("timeline")


def test_the_lineage_shows_the_seven_assets_of_the_group(ui: DagsterUI) -> None:
    ui.open(f"{ASSET_GROUP}/lineage")

    ui.sees_all(ASSETS)
    expect(ui.page.get_by_text("Loading...")).to_have_count(0, timeout=SHOWN_WITHIN)
    ui.picture("lineage")


def test_a_dry_run_is_red_and_its_check_says_why(ui: DagsterUI) -> None:
    ui.roll_out(DRY, "Failure")

    ui.asset("summary", "Checks")
    ui.sees_all(["go_no_go", "Failed"])
    ui.sees(ui.page.get_by_text(re.compile(r"^block: .*--skip-gates")))
    ui.picture("blocked-check")


def test_a_soak_is_terminated_from_the_run_s_page_and_blocks(ui: DagsterUI) -> None:
    ui.launchpad()
    ui.type_config("resources: {rollout: {config: {cohorts: [5], cohort_soak_seconds: 60}}}")
    ui.launch()
    ui.sees(ui.page.get_by_text(re.compile(r"cohort 5: soaking")), 120_000)

    ui.button("Terminate").click()
    ui.button("Terminate 1 run").click()

    ui.sees_status("Canceled")
    ui.page.reload()
    ui.sees_status("Canceled")
    ui.sees(ui.tags_of_run().get_by_text("canary/decision: block"))

    ui.asset("summary", "Checks")
    ui.sees_all(["go_no_go", "Failed"])
    ui.sees(ui.page.get_by_text(re.compile(r"^block: attempt 1 aborted: terminated through")))


def test_the_runs_are_filtered_by_their_decision(ui: DagsterUI) -> None:
    allowed = ui.some_run(QUICK, "Success")[:8]
    blocked = ui.some_run(DRY, "Failure")[:8]

    ui.open("/runs")
    ui.sees_all([allowed, blocked])
    ui.page.get_by_text("canary/decision: allow").first.hover()
    ui.button("Add tag to filter").click()

    expect(ui.page.get_by_text(blocked)).to_be_hidden(timeout=SHOWN_WITHIN)
    ui.sees_all([allowed])
    expect(ui.page.get_by_text("canary/decision: block")).to_have_count(0)


def test_the_schedule_is_switched_on_and_off_on_its_page(ui: DagsterUI) -> None:
    ui.open(SCHEDULE)
    running = ui.row("Running")
    ui.sees(running)
    expect(running.get_by_role("checkbox")).not_to_be_checked()

    running.locator("label").click()
    ui.sees(ui.row("Next tick"))
    expect(running.get_by_role("checkbox")).to_be_checked()
    ui.picture("schedule")

    running.locator("label").click()
    expect(ui.row("Next tick")).to_be_hidden(timeout=SHOWN_WITHIN)
    expect(running.get_by_role("checkbox")).not_to_be_checked()


def test_no_page_shows_the_token_nor_the_key_that_signs_it(
    ui: DagsterUI, greeted: Served, seen: Seen
) -> None:
    ui.open(f"/runs/{ui.some_run(QUICK, 'Success')}")
    ui.sees(ui.tags_of_run().get_by_text("cohort_soak_seconds"))
    ui.button("OK").click()
    for output in ("stdout", "stderr"):
        ui.button(output).click()
        ui.see()
    for name in ASSETS:
        ui.asset(name, "Events")
        ui.sees(ui.page.get_by_text("Metadata").first)
    for path, text in DEPLOYMENT.items():
        ui.open(path)
        ui.sees(ui.page.get_by_text(text).first)

    assert TOKEN.fullmatch(greeted.token_file.read_text())
    assert any("cohort 5" in text for _, text in seen.frames)
    told = seen.pages + seen.frames
    leaks = {url for url, text in told if TOKEN.search(text) or greeted.signing_key in text}
    assert leaks == set()
