"""Start the stand-in beside something that needs a staging, and end it with that."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from canary_pipeline.local_staging.faults import VARIABLE as FAULT_VARIABLE
from canary_pipeline.local_staging.tokens import Issuer

CHECKOUT = Path(__file__).parent / "checkout"
"""A folder laid out like the target's checkout, with the scripts that the gates run."""

START_SECONDS = 30


class StandInError(Exception):
    """The stand-in did not start."""


@dataclass(frozen=True)
class LocalStaging:
    """A stand-in that is serving.

    Attributes:
        base_url: Where it serves.
        process: Its process.
        environment: Exactly the variables that a rollout against it needs.
    """

    base_url: str
    process: "subprocess.Popen[bytes]"
    environment: Mapping[str, str]


@contextmanager
def local_staging(
    state_dir: Path, *, fault: str | None = None, more: Mapping[str, str] | None = None
) -> Iterator[LocalStaging]:
    """Serve a stand-in while the body runs.

    Args:
        state_dir: Where it keeps its topics, its token and its log.
        fault: How it misbehaves; one of `faults.FAULTS`.
        more: Further variables for its process, such as canary percents.

    Raises:
        StandInError: When it does not start.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    variables = token_variables()
    variables[FAULT_VARIABLE] = fault or ""
    with server_process(state_dir, {**os.environ, **variables, **(more or {})}) as (process, url):
        yield LocalStaging(url, process, rollout_variables(url, variables, state_dir))


def token_variables() -> dict[str, str]:
    """Variables of a staging's tokens, with a signing key of their own."""
    prefix = "OA_SPACETIME_STAGING"
    return {
        f"{prefix}_DATABASE": "local-staging",
        f"{prefix}_TOKEN_ISSUER": "local-staging",
        f"{prefix}_TOKEN_AUDIENCE": "spacetime-sync",
        f"{prefix}_JWT_SIGNING_KEY": secrets.token_hex(32),
    }


def issuer(variables: Mapping[str, str]) -> Issuer:
    """The issuer that these variables describe."""
    prefix = "OA_SPACETIME_STAGING"
    return Issuer(
        variables[f"{prefix}_JWT_SIGNING_KEY"],
        variables[f"{prefix}_TOKEN_ISSUER"],
        variables[f"{prefix}_TOKEN_AUDIENCE"],
    )


def rollout_variables(
    base_url: str, variables: Mapping[str, str], state_dir: Path
) -> dict[str, str]:
    """The variables that a rollout against a serving stand-in needs."""
    token_file = state_dir / "session-token"
    token_file.touch(mode=0o600)
    token_file.write_text(issuer(variables).session())
    return {
        **variables,
        "OA_SPACETIME_STAGING_HTTP_BASE_URL": base_url,
        "OA_STAGING_CONTROL_BASE_URL": base_url,
        "OA_STAGING_CONTROL_AUTH_TOKEN_FILE": str(token_file),
        "OA_RUNTIME_METRICS_URL": f"{base_url}/internal/v1/spacetime/sync/metrics",
        "OA_CONTROL_STATUS_URL": f"{base_url}/api/v1/control/status",
        "OA_STAGING_REPO_ROOT": str(CHECKOUT),
        "LOCAL_STAGING_PYTHON": sys.executable,
    }


@contextmanager
def server_process(
    state_dir: Path, variables: Mapping[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Run a server process while the body runs; yields it and its base URL.

    Raises:
        StandInError: When it does not start.
    """
    process, url = start_server(state_dir, variables)
    try:
        yield process, url
    finally:
        stop_server(process)


def start_server(
    state_dir: Path, variables: Mapping[str, str]
) -> tuple["subprocess.Popen[bytes]", str]:
    """Start a server process and wait until it serves; return it and its base URL.

    Raises:
        StandInError: When it does not start.
    """
    ready_file, log_file = state_dir / "base-url", state_dir / "server.log"
    ready_file.unlink(missing_ok=True)
    module = "canary_pipeline.local_staging.server"
    with log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", module, "--state-dir", state_dir, "--ready-file", ready_file],
            env=dict(variables),
            stdin=subprocess.PIPE,  # its end tells the server that we are gone
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while not ready_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            stop_server(process)
            message = f"the stand-in did not start: {log_file.read_text(errors='replace').strip()}"
            raise StandInError(message)
        time.sleep(0.02)
    return process, ready_file.read_text()


def stop_server(process: "subprocess.Popen[bytes]") -> None:
    """End a server process by its process id."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
