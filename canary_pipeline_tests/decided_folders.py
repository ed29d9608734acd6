"""Real rollouts' folders, made by the core alone, for tests of what is read from them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from canary_pipeline_tests.conftest import TOKEN
from canary_pipeline_tests.fake_staging import FakeStaging, answer

GATE = "#!/usr/bin/env bash\necho all is well\n"


@dataclass
class Rollouts:
    """A world in which rollouts are made: a checkout under version control, and a staging."""

    folder: Path
    staging: FakeStaging
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the checkout, and let staging answer."""
        for script in ("scripts/local-ci.sh", "scripts/spacetime/provision-check.sh"):
            file = self.checkout / script
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(GATE)
            file.chmod(0o755)
        self.git("init", "-q")
        self.commit = self.commit_all()
        self.staging.snapshots["/metrics"] = answer(200, {"delivery": {"total_polls": 7}})
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OA_", "DAGSTER_", "CANARY_", "SSH_"))
        }
        self.variables = {
            **kept,
            "HOME": str(self.folder),
            "CANARY_PIPELINE_CLAIM_DIR": str(self.folder),
            "CANARY_PIPELINE_STATE_DIR": str(self.folder / "state"),
            "OA_STAGING_REPO_ROOT": str(self.checkout),
            "OA_STAGING_CONTROL_BASE_URL": self.staging.url,
            "OA_STAGING_CONTROL_AUTH_TOKEN": TOKEN,
            "OA_RUNTIME_METRICS_URL": f"{self.staging.url}/metrics",
            **self.variables,
        }

    @property
    def checkout(self) -> Path:
        """Where the gates run."""
        return self.folder / "checkout"

    @property
    def more_snapshots(self) -> dict[str, str]:
        """The variable by which the other kind of snapshot is taken too."""
        return {"OA_CONTROL_STATUS_URL": f"{self.staging.url}/metrics"}

    @property
    def root(self) -> Path:
        """Where the rollouts' folders are."""
        return self.folder / "rollouts"

    def git(self, *words: str) -> str:
        """Run git in the checkout; return what it printed."""
        who = ("-c", "user.name=somebody", "-c", "user.email=somebody@localhost")
        command = ["git", "-C", str(self.checkout), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit_all(self) -> str:
        """Commit the checkout; return the commit's id."""
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", "a change")
        return self.git("rev-parse", "HEAD")

    def command(
        self, *words: str, code: int = 0, more: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run `canary-rollout` without Dagster."""
        done = subprocess.run(
            [sys.executable, "-m", "canary_pipeline_tests.core_alone", *words],
            cwd=self.folder,
            env={**self.variables, **(more or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def rollout(
        self, name: str, *words: str, code: int = 0, more: Mapping[str, str] | None = None
    ) -> Path:
        """Make a rollout with cohorts of 5, 25 and 100 %; return its folder."""
        plan = ("--cohorts", "5,25,100", "--cohort-soak-seconds", "0")
        where = ("--output-dir", str(self.root / name))
        self.command("run", *plan, *where, *words, code=code, more=more)
        return self.root / name
