"""A rollout to the local stand-in, for whoever wants to see one before configuring anything."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.commands.exits import NoDecisionError
from canary_pipeline.environments import STAGING
from canary_pipeline.local_staging.faults import FAULTS
from canary_pipeline.local_staging.stand_in import APPLY_COMMAND, StandInError, local_staging
from canary_pipeline.outside.claim import CLAIM_FOLDER_VARIABLE

SOAK_SECONDS = 2
HTTP_TIMEOUT_SECONDS = 5
VERIFY_TIMEOUT_SECONDS = 10

_TUNING = {
    "OA_STAGING_CANARY_APPLY_COMMAND": APPLY_COMMAND,
    "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": str(VERIFY_TIMEOUT_SECONDS),
    "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": str(SOAK_SECONDS),
    "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": str(HTTP_TIMEOUT_SECONDS),
}
"""What makes a rollout short enough to watch; whoever sets these variables is obeyed."""


@contextmanager
def stand_in_environment(fault: str | None = None) -> Iterator[Mapping[str, str]]:
    """Serve a stand-in and make it the staging of this process while the body runs.

    Args:
        fault: How it misbehaves.

    Raises:
        NoDecisionError: When it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="local-staging-") as folder:
        try:
            with local_staging(Path(folder), fault=fault) as staging:
                os.environ.pop("OA_STAGING_CONTROL_AUTH_TOKEN", None)
                os.environ.update(staging.environment)
                os.environ.update({**_TUNING, **_given(_TUNING)})
                # A stand-in is not the staging that others roll out to.
                os.environ[CLAIM_FOLDER_VARIABLE] = folder
                yield staging.environment
        except StandInError as error:
            raise NoDecisionError(str(error)) from None


def _given(names: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def announce(fault: str | None) -> None:
    """Say what is about to be seen."""
    print("a local stand-in serves as staging; nothing outside this machine is asked")
    if fault:
        print(f"fault {fault}: {FAULTS[fault]}")


def serve_ui(port: int) -> int:
    """Open the Dagster UI with the stand-in behind it, until it is stopped.

    Returns:
        The exit code of `dagster dev`.
    """
    home = use_home()
    with stand_in_environment() as environment:
        os.environ.setdefault(f"{STAGING.variable_prefix}_UI_URL", f"http://127.0.0.1:{port}")
        print(f"Dagster UI: http://127.0.0.1:{port} (history in {home})")
        print(f"stand-in: {environment['OA_STAGING_CONTROL_BASE_URL']}", flush=True)
        dagster = Path(sys.executable).with_name("dagster")
        command = [str(dagster), "dev", "-m", "canary_pipeline", "-h", "127.0.0.1", "-p", str(port)]
        with subprocess.Popen(command) as child:  # noqa: S603 - the engine's own command
            while True:
                try:
                    return child.wait()
                except KeyboardInterrupt:
                    child.terminate()
