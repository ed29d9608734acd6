"""The six rollouts whose folders are golden: everything that a rollout can end in."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from canary_pipeline_tests.conftest import (
    CORE,
    GATES,
    Checkout,
    Commands,
    await_true,
    soaks,
)
from canary_pipeline_tests.fake_staging import GOOD, Behaviour, FakeStaging, answer
from canary_pipeline_tests.live_staging import APPLY_VARIABLE, FAKE_APPLY, let_apply

FOLDERS = Path(__file__).parent / "folders"
"""A folder a scenario, byte for byte as it was written; only the picture in it is emptied."""

NEW_FROM = "GOLDEN_FOLDERS_FROM"
"""Names the folder of the programs that make the golden folders anew; unset in tests."""

NEUTRAL = Path("/tmp/golden")  # noqa: S108 - golden folders name it, so no machine's own path
"""Where the rollouts run while the golden folders are made anew."""


@dataclass
class World:
    """Commands, a checkout under version control whose gates pass, and a staging that applies."""

    commands: Commands
    checkout: Checkout
    staging: FakeStaging

    def __post_init__(self) -> None:
        """Give what a folder tells of its world a fixed value."""
        self.commands.folder = self.commands.folder.parent
        self.commands.environment["LOGNAME"] = "operator"
        self.staging.snapshots["/status"] = answer(200, {"data": {"service": "control"}})
        let_apply(self.staging, self.checkout.folder)
        for gate in GATES:
            self.checkout.gate(gate, "echo all is well")
        (self.checkout.folder / ".gitignore").write_text("live.env\nstarted/\n")
        as_somebody = "-c user.name=somebody -c user.email=somebody@localhost"
        for git in ("init -q", "add .", f"{as_somebody} commit -q -m checkout"):
            words = ["git", "-C", str(self.checkout.folder), *git.split()]
            subprocess.run(words, check=True, env=self.commands.environment)

    @property
    def commit(self) -> str:
        """What is checked out."""
        words = ["git", "-C", str(self.checkout.folder), "rev-parse", "HEAD"]
        return subprocess.check_output(words, text=True).strip()


WELL, METRICS = answer(200, GOOD), answer(200, {"delivery": {"total_polls": 7}})
BROKEN = answer(500, {"error": {"code": "internal"}})


@dataclass(frozen=True)
class Scenario:
    """A rollout: its exit code, its arguments, how its world behaves, whether it is stopped.

    With a picture, Dagster runs it, which draws that; the core writes all else alike.
    """

    code: int
    arguments: str
    cohort_25: Behaviour = WELL
    metrics: Behaviour = METRICS
    chaos: str = "echo all is well"
    apply_command: str = ""
    stop_in_soak: bool = False
    with_picture: bool = False

    def play(self, world: World) -> Path:
        """Run it to its end; return its folder."""
        world.staging.probes[25] = self.cohort_25
        world.staging.snapshots["/metrics"] = self.metrics
        world.checkout.gate("spacetime-chaos", self.chaos)
        world.commands.environment[APPLY_VARIABLE] = self.apply_command
        as_people_do = self.with_picture or NEW_FROM in os.environ
        words = ("canary-rollout",) if as_people_do else CORE
        process = world.commands.start(*words, "run", *self.arguments.split())
        if self.stop_in_soak:
            await_true(lambda: any(map(soaks, world.commands.folders)), seconds=90)
            process.send_signal(signal.SIGTERM)
        result = world.commands.finish(process)
        assert result.code == self.code, result.out + result.err
        [folder] = world.commands.folders
        return folder


SCENARIOS = {
    "allow": Scenario(0, "--cohorts 5,100 --cohort-soak-seconds 1", with_picture=True),
    "block-at-25": Scenario(1, "--cohorts 5,25,100", cohort_25=BROKEN),
    "failing-gate": Scenario(1, "--cohorts 5,100", chaos="echo 'events lost' >&2; exit 3"),
    "dry-run": Scenario(1, "--cohorts 5,100 --skip-gates", metrics=BROKEN),
    "aborted": Scenario(3, "--cohorts 5 --cohort-soak-seconds 20", stop_in_soak=True),
    "rolled-back": Scenario(
        1, "--cohorts 5,25", cohort_25=BROKEN, apply_command=f"{FAKE_APPLY} && echo applied"
    ),
}
