"""What every measured run gets: a checkout with gates, a staging on loopback, a fresh history."""

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic

from benchmarks.measured import Measured, adopt_orphans, measure
from canary_pipeline_tests.fake_staging import FakeStaging

TOKEN = "token-of-the-benchmark"  # noqa: S105 - a loopback server's
PROGRAMS = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent

GATE_SECONDS = 1.0
"""How long each of the four gates takes: what is trivial costs no CPU."""

_GATE = f"#!/bin/sh\nexec sleep {GATE_SECONDS:g}\n"

_OTHERS = ("OA_", "DAGSTER_", "CANARY_", "LOCAL_STAGING_", "BENCHMARK_", "PYTHON")
"""Prefixes of variables that would change what is measured."""


class World:
    """A temporary folder in which commands are measured."""

    def __init__(self, folder: Path, staging: FakeStaging, limit_seconds: float) -> None:
        """Prepare the checkout; use `made` instead.

        Args:
            folder: An empty folder.
            staging: What is probed.
            limit_seconds: How long all runs together may take.
        """
        self.folder = folder
        self.staging = staging
        self._ends_at = monotonic() + limit_seconds
        self._numbers = count(1)
        for name in ("scripts/local-ci.sh", "scripts/spacetime/provision-check.sh"):
            script = folder / "checkout" / name
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(_GATE)
            script.chmod(0o755)

    @classmethod
    @contextmanager
    def made(cls, limit_seconds: float) -> Iterator["World"]:
        """Make a world, with a Dagster instance to copy and every cache warm; remove it at last.

        Args:
            limit_seconds: How long all runs together may take.
        """
        adopt_orphans()
        with (
            tempfile.TemporaryDirectory(prefix="canary-benchmark-") as folder,
            FakeStaging.serving(TOKEN) as staging,
        ):
            world = cls(Path(folder), staging, limit_seconds)
            home = world.folder / "dagster"
            make_home = "from canary_pipeline.commands.dagster_home import use_home; use_home()"
            make = (PROGRAMS / "python", "-c", make_home)
            world.run(make, {"DAGSTER_HOME": str(home)}, fresh_home=False)
            world.run([PROGRAMS / "canary-rollout", "run"])
            yield world

    def run(
        self,
        command: Sequence[str | Path],
        more: Mapping[str, str] | None = None,
        *,
        fresh_home: bool = True,
        home: str = "dagster",
        watch: bool = False,
        limit_seconds: float = math.inf,
    ) -> Measured:
        """Measure a command in a folder of its own.

        Args:
            command: Program and arguments.
            more: Variables beyond those that configure a rollout without soaks.
            fresh_home: Whether it finds a Dagster instance that is ready and has no history.
            home: The folder of the world that such an instance is copied from.
            watch: Whether to look at its processes while it runs.
            limit_seconds: How long it may take, if not as long as there is time for all of them.

        Raises:
            RunFailedError: When it does not end well.
            RunLateError: When it does not end in time.
        """
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        if fresh_home:
            shutil.copytree(self.folder / home, folder / "dagster")
        environment = {**self._environment(folder), **(more or {})}
        limit = min(limit_seconds, max(self.seconds_left, 1.0))
        return measure(command, folder, environment, limit, watch=watch)

    @property
    def seconds_left(self) -> float:
        """How long all further runs together may take."""
        return self._ends_at - monotonic()

    def _environment(self, folder: Path) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(_OTHERS)}
        url = self.staging.url
        return {
            **kept,
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(folder / "dagster"),
            "CANARY_PIPELINE_CLAIM_DIR": str(self.folder),
            "OA_STAGING_REPO_ROOT": str(self.folder / "checkout"),
            "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "0",
            "OA_STAGING_CONTROL_BASE_URL": url,
            "OA_STAGING_CONTROL_AUTH_TOKEN": TOKEN,
            "OA_RUNTIME_METRICS_URL": f"{url}/metrics",
            "OA_CONTROL_STATUS_URL": f"{url}/status",
        }
