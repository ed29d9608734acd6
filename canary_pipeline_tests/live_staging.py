"""A staging that really changes: the stand-in, and commands that apply to it."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from canary_pipeline.local_staging.stand_in import (
    APPLY_COMMAND,
    CHECKOUT,
    LocalStaging,
    local_staging,
)
from canary_pipeline_tests.conftest import PROGRAMS, Commands, await_true, rows
from canary_pipeline_tests.fake_staging import FakeStaging, send

APPLY = str(CHECKOUT / APPLY_COMMAND)
"""The stand-in's apply script, from whatever folder."""

APPLY_VARIABLE = "OA_STAGING_CANARY_APPLY_COMMAND"
ROLLBACK_VARIABLE = "OA_STAGING_CANARY_ROLLBACK_COMMAND"
ON_BLOCK_VARIABLE = "OA_STAGING_CANARY_ON_BLOCK"
TIMEOUT_VARIABLE = "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS"
TOKEN_FILE_VARIABLE = "OA_STAGING_CONTROL_AUTH_TOKEN_FILE"  # noqa: S105 - a name

VARIABLES = {
    "OA_RUNTIME_CANARY_USER_PERCENT",
    "OA_RUNTIME_CANARY_AUTOPILOT_PERCENT",
    "OA_RUNTIME_SHADOW_ENABLED",
    "OA_RUNTIME_SHADOW_SAMPLE_RATE",
}


@dataclass
class LiveStaging:
    """The stand-in that serves, and the commands whose world it is the staging of."""

    staging: LocalStaging
    commands: Commands

    @property
    def token_file(self) -> Path:
        return Path(self.staging.environment[TOKEN_FILE_VARIABLE])

    def status(self) -> Any:
        """What is live, once the service answers."""
        url = f"{self.staging.base_url}/api/v1/control/runtime-routing/status"

        def ask() -> Any:
            try:
                token = self.token_file.read_text()
                headers = {"Authorization": f"Bearer {token}"}
                return requests.get(url, headers=headers, timeout=5).json()["data"]
            except (OSError, requests.RequestException, KeyError):
                return None

        return await_true(ask)

    @property
    def percent(self) -> int:
        """The percent that is live, of users and of autopilots alike."""
        live = self.status()
        assert live["canary_user_percent"] == live["canary_autopilot_percent"]
        return int(live["canary_user_percent"])

    def bash(self, script: str) -> "subprocess.CompletedProcess[str]":
        """Run what somebody pastes into a terminal, in the commands' world."""
        path = f"{PROGRAMS}:{self.commands.environment['PATH']}"
        return subprocess.run(
            ["/bin/bash", "-e", "-c", script],
            cwd=self.commands.folder,
            env={**self.commands.environment, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def resume(self, folder: Path, more: Mapping[str, str] | None = None) -> Any:
        return self.commands.run("canary-rollout", "resume", str(folder), more=more)


@contextmanager
def live_staging(
    commands: Commands, state_dir: Path, fault: str | None = None, **more: str
) -> Iterator[LiveStaging]:
    """Let the commands roll out to a stand-in, and make their cohorts live there.

    Args:
        commands: Whose environment gets the stand-in's; the gates stay the test's own.
        state_dir: The stand-in's.
        fault: How it misbehaves.
        more: Variables of the stand-in, such as the percents that it starts with.
    """
    with local_staging(state_dir, fault=fault, extra_environment=more) as staging:
        own = {"OA_STAGING_REPO_ROOT": commands.environment["OA_STAGING_REPO_ROOT"]}
        del commands.environment["OA_STAGING_CONTROL_AUTH_TOKEN"]
        commands.environment.update(
            {
                **staging.environment,
                **own,
                APPLY_VARIABLE: APPLY,
                TIMEOUT_VARIABLE: "10",
                "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": "3",
            }
        )
        yield LiveStaging(staging, commands)


def rollback_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of `rollback-results.jsonl`."""
    return rows(folder, "rollback-results.jsonl")


def section(folder: Path, title: str) -> str:
    """A section of `SUMMARY.md`."""
    _, _, after = (folder / "SUMMARY.md").read_text().partition(f"\n## {title}\n")
    return after.partition("\n## ")[0]


def commands_by_hand(text: str) -> str:
    """The shell commands that a text gives for restoring staging by hand."""
    return text.partition("```sh\n")[2].partition("\n```")[0]


FAKE_APPLY = 'cp "$OA_STAGING_CANARY_ENV_FILE" live.env'
"""Makes variables live in a fake staging that reads them from that file of the checkout."""

ROUTING_STATUS = "/api/v1/control/runtime-routing/status"


def routing(percent: int, *, shadow: bool = True, rate: float = 1.0) -> dict[str, Any]:
    """What the routing status answers."""
    return {
        "data": {
            "canary_user_percent": percent,
            "canary_autopilot_percent": percent,
            "shadow": {"enabled": shadow, "sample_rate": rate},
        }
    }


def live_in(file: Path) -> dict[str, Any]:
    """The routing that a file of variables makes live; nothing is where there is none."""
    lines = file.read_text().splitlines() if file.exists() else []
    found = dict(line.split("=", 1) for line in lines)
    status = routing(
        int(found.get("OA_RUNTIME_CANARY_USER_PERCENT", "0")),
        shadow=found.get("OA_RUNTIME_SHADOW_ENABLED") == "true",
        rate=float(found.get("OA_RUNTIME_SHADOW_SAMPLE_RATE", "0")),
    )
    autopilots = int(found.get("OA_RUNTIME_CANARY_AUTOPILOT_PERCENT", "0"))
    return {"data": {**status["data"], "canary_autopilot_percent": autopilots}}


def let_apply(staging: FakeStaging, checkout: Path) -> None:
    """Let a fake staging serve what `FAKE_APPLY` makes live in a checkout."""
    file = checkout / "live.env"
    staging.snapshots[ROUTING_STATUS] = lambda handler: send(handler, 200, live_in(file))
