"""Start the stand-in beside something that needs a staging, and end it with that."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from canary_pipeline.local_staging import session_file
from canary_pipeline.local_staging.faults import VARIABLE as FAULT_VARIABLE
from canary_pipeline.local_staging.tokens import PREFIX, new_token_variables

APPLY_COMMAND = "scripts/spacetime/apply-canary.sh"
"""In the checkout; gives the stand-in new canary variables, with which it restarts."""

BASE_URL_FILE = "base-url"
STATE_DIR_VARIABLE = "LOCAL_STAGING_STATE_DIR"

CHECKOUT = Path(__file__).parent / "checkout"
"""A folder laid out like the target's checkout, with the scripts that the gates run."""

START_SECONDS = 30
STOP_SECONDS = 5


class StandInError(Exception):
    """The stand-in did not start."""


@dataclass(frozen=True)
class LocalStaging:
    """A stand-in that is serving.

    Attributes:
        base_url: Where it serves.
        pid: Its process id.
        checkout: The checkout that belongs to it, with the scripts of the gates.
        environment: Exactly the variables that a rollout against it needs.
        apply_command: Run in the checkout, applies canary variables; for whoever wants that.
    """

    base_url: str
    pid: int
    checkout: Path
    environment: Mapping[str, str]
    apply_command: str = APPLY_COMMAND


@contextmanager
def local_staging(
    state_dir: Path, *, fault: str | None = None, extra_environment: Mapping[str, str] | None = None
) -> Iterator[LocalStaging]:
    """Serve a stand-in while the body runs.

    Args:
        state_dir: Where it keeps its topics, its token and its log.
        fault: How it misbehaves; one of `faults.FAULTS`.
        extra_environment: Further variables for its process, such as canary percents.

    Raises:
        StandInError: When it does not start.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    variables = {**new_token_variables(), FAULT_VARIABLE: fault or ""}
    inherited = {**os.environ, **variables, **(extra_environment or {})}
    with server_process(state_dir, inherited) as (process, url):
        environment = rollout_variables(url, variables, state_dir)
        yield LocalStaging(url, process.pid, CHECKOUT, environment)


def rollout_variables(
    base_url: str, variables: Mapping[str, str], state_dir: Path
) -> dict[str, str]:
    """The variables that a rollout against a serving stand-in needs."""
    return {
        **variables,
        f"{PREFIX}_HTTP_BASE_URL": base_url,
        "OA_STAGING_CONTROL_BASE_URL": base_url,
        "OA_STAGING_CONTROL_AUTH_TOKEN_FILE": str((state_dir / session_file.NAME).absolute()),
        "OA_RUNTIME_METRICS_URL": f"{base_url}/internal/v1/spacetime/sync/metrics",
        "OA_CONTROL_STATUS_URL": f"{base_url}/api/v1/control/status",
        "OA_STAGING_REPO_ROOT": str(CHECKOUT),
        "LOCAL_STAGING_PYTHON": sys.executable,
        STATE_DIR_VARIABLE: str(state_dir.absolute()),
        "no_proxy": _no_proxy(os.environ),
    }


def _no_proxy(variables: Mapping[str, str]) -> str:
    """The hosts that no proxy is asked for, and loopback among them."""
    known = variables.get("no_proxy") or variables.get("NO_PROXY")
    return f"{known},127.0.0.1" if known else "127.0.0.1"


@contextmanager
def server_process(
    state_dir: Path, variables: Mapping[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Run a server process while the body runs; yields it and its base URL.

    Raises:
        StandInError: When it does not start.
    """
    ready_file, log_file = state_dir / BASE_URL_FILE, state_dir / "server.log"
    ready_file.unlink(missing_ok=True)
    process = _start(state_dir, ready_file, log_file, variables)
    try:
        if not _is_ready(process, ready_file):
            message = f"the stand-in did not start: {log_file.read_text(errors='replace').strip()}"
            raise StandInError(message)
        yield process, ready_file.read_text()
    finally:
        _stop(process)


def _start(
    state_dir: Path, ready_file: Path, log_file: Path, variables: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    module = "canary_pipeline.local_staging.server"
    options = ["--state-dir", str(state_dir), "--ready-file", str(ready_file), "--end-with-stdin"]
    with log_file.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", module, *options],
            env=dict(variables),
            stdin=subprocess.PIPE,  # its end tells the server that we are gone
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _is_ready(process: "subprocess.Popen[bytes]", ready_file: Path) -> bool:
    """Wait until a server process serves; False when it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not ready_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server process by its process id."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
