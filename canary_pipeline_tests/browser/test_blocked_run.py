"""A rollout that blocks at a cohort, as people see it in the Dagster UI."""

import re

import pytest

from canary_pipeline_tests.browser.chromium import require_browser

require_browser()

from canary_pipeline_tests.browser.dagster_ui import DagsterUI  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.prove,  # it takes a `dagster dev` of its own
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("browser"),
]

FAULT = "error-at-25"


def test_the_cohort_that_fails_is_the_red_step_and_the_one_after_it_is_not(ui: DagsterUI) -> None:
    ui.roll_out("cohort_soak_seconds: 1", "Failure")

    ui.steps()
    for name in ("cohort_25", "summary"):
        ui.sees_step(name)
    ui.picture("blocked-run")
    ui.list_succeeded()
    ui.sees_step("cohort_100")
    ui.asset("summary", "Checks")
    ui.sees(ui.page.get_by_text(re.compile(r"^block: cohort 25 % failed: probe answered 500")))
