"""Whole rollouts by the core, in the test's own process: for what one does to another."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from canary_pipeline.commands.resume import go_on
from canary_pipeline.commands.run import roll_out
from canary_pipeline.environments import STAGING
from canary_pipeline.planning import Settings, resolve
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.conftest import TOKEN, Checkout
from canary_pipeline_tests.core_alone import CoreAlone
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.live_staging import FAKE_APPLY, let_apply, live_in


@dataclass
class AtHand:
    """A staging whose percents rollouts make live, and the rollouts to it."""

    root: Path
    checkout: Checkout
    staging: FakeStaging

    def settings(self, **flags: str) -> Settings:
        return resolve(STAGING, os.environ, flags)

    def roll_out(self, name: str, **flags: str) -> tuple[Evidence, int]:
        """A new rollout: its folder and the exit code."""
        folder = self.root / "rollouts" / name
        code = roll_out(self.settings(output_dir=str(folder), **flags), STAGING, CoreAlone())
        return Evidence(folder), code

    def resume(self, evidence: Evidence, *, superseded: bool = False) -> int:
        return go_on(evidence, self.settings(), STAGING, CoreAlone(), superseded=superseded)

    @property
    def percent(self) -> int:
        """What is live."""
        return int(live_in(self.checkout.folder / "live.env")["data"]["canary_user_percent"])


@pytest.fixture
def at_hand(
    tmp_path: Path, checkout: Checkout, staging: FakeStaging, monkeypatch: pytest.MonkeyPatch
) -> AtHand:
    for name in os.environ:
        if name.startswith(("OA_", "CANARY_", "DAGSTER_")):
            monkeypatch.delenv(name)
    given = {
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "CANARY_PIPELINE_CLAIM_DIR": str(tmp_path),
        "CANARY_PIPELINE_STATE_DIR": str(tmp_path / "state"),
        "OA_STAGING_REPO_ROOT": str(checkout.folder),
        "OA_STAGING_CANARY_COHORTS": "5,100",
        "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "0",
        "OA_STAGING_CONTROL_BASE_URL": staging.url,
        "OA_STAGING_CONTROL_AUTH_TOKEN": TOKEN,
        "OA_STAGING_CANARY_APPLY_COMMAND": FAKE_APPLY,
        "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": "1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    let_apply(staging, checkout.folder)
    return AtHand(tmp_path, checkout, staging)
