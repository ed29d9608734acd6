"""A staging that really changes, and commands that apply to it: the stand-in, or a quicker one."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from canary_pipeline.local_staging.faults import FAULT_PERCENT
from canary_pipeline.local_staging.stand_in import (
    APPLY_COMMAND,
    CHECKOUT,
    local_staging,
)
from canary_pipeline_tests.conftest import PROGRAMS, TOKEN, Checkout, Commands, await_true, rows
from canary_pipeline_tests.fake_staging import GOOD, FakeStaging, answer, send

APPLY = '"$APPLY_CANARY"'
"""The script that changes a live staging, from whatever folder."""

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
    """A staging that serves, and the commands whose world it is the staging of."""

    base_url: str
    token_file: Path
    commands: Commands

    def status(self) -> Any:
        """What is live, once the service answers."""
        url = f"{self.base_url}{ROUTING_STATUS}"

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
        return self.commands.resume(folder, more=more)


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
                APPLY_VARIABLE: str(CHECKOUT / APPLY_COMMAND),
                TIMEOUT_VARIABLE: "10",
                "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": "3",
            }
        )
        token_file = Path(staging.environment[TOKEN_FILE_VARIABLE])
        yield LiveStaging(staging.base_url, token_file, commands)


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


_APPLIES_WITH_FAULT = {
    "apply-does-nothing": "exit 0",
    "apply-fails": '[ "$OA_RUNTIME_CANARY_USER_PERCENT" -lt 25 ] || exit 1',
}
LATE_SECONDS = 2.5
DRIFTS_AFTER_SECONDS = 1.0


def let_change(
    commands: Commands, staging: FakeStaging, checkout: Checkout, fault: str = "", **live: str
) -> LiveStaging:
    """Let the commands roll out to a fake staging, and make their cohorts live there.

    Args:
        commands: Whose environment is changed.
        staging: Serves what is live in the checkout.
        checkout: Where the script is that makes variables live.
        fault: One of the stand-in's `error-at-25`, `apply-…`, `drift`, which is the same here.
        live: Variables that are live before.
    """
    script, token_file = checkout.folder / "apply", checkout.folder.parent / "token"
    script.write_text(
        f"#!/bin/bash\nset -e\ncd '{checkout.folder}'\n"
        f"[ -f '{token_file}' ]\n"
        'echo "applying $OA_RUNTIME_CANARY_USER_PERCENT %"\n'
        f"{_APPLIES_WITH_FAULT.get(fault, '')}\n"
        'cp "$OA_STAGING_CANARY_ENV_FILE" new.env\nmv new.env live.env\n'
    )
    script.chmod(0o755)
    token_file.write_text(TOKEN)
    served = _Served(checkout.folder / "live.env", fault)
    served.file.write_text("".join(f"{name}={value}\n" for name, value in live.items()))
    staging.snapshots[ROUTING_STATUS] = lambda handler: send(handler, 200, served.status())
    staging.snapshots["/status"] = lambda handler: send(
        handler, 200, {"data": {"runtimeRouting": served.status()["data"]}}
    )
    for percent in (5, 25, 100):
        staging.probes[percent] = lambda handler: send(handler, 200, served.evaluated())
    if fault == "error-at-25":
        staging.probes[25] = answer(500, {})
    del commands.environment["OA_STAGING_CONTROL_AUTH_TOKEN"]
    commands.environment |= {
        "APPLY_CANARY": str(script),
        TOKEN_FILE_VARIABLE: str(token_file),
        APPLY_VARIABLE: APPLY,
        TIMEOUT_VARIABLE: "10",
        "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": "3",
    }
    return LiveStaging(staging.url, token_file, commands)


class _Served:
    """What a file makes live, with the faults that are a matter of time."""

    def __init__(self, file: Path, fault: str) -> None:
        self.file, self._fault = file, fault
        self._shown, self._seen_25_at = "", float("inf")

    def status(self) -> dict[str, Any]:
        """What the routing status answers now."""
        if self._fault == "apply-lands-late" and self.file.exists():
            age = time.time() - self.file.stat().st_mtime
            late = self.file.with_name("late.env")
            if age >= LATE_SECONDS or not late.exists():
                late.write_text(self.file.read_text())
            return live_in(late)
        if time.monotonic() > self._seen_25_at + DRIFTS_AFTER_SECONDS:
            self.file.unlink(missing_ok=True)
        found = live_in(self.file)
        if self._fault == "drift" and found["data"]["canary_user_percent"] == FAULT_PERCENT:
            self._seen_25_at = min(self._seen_25_at, time.monotonic())
        return found

    def evaluated(self) -> dict[str, Any]:
        """What a probe is answered: the canary's driver where most are in it."""
        percent = int(live_in(self.file)["data"]["canary_user_percent"])
        canary = {"driver": "runtime_service", "reason": "user_canary"}
        return {"data": canary} if percent > FAULT_PERCENT else GOOD
