"""A rollout to the local stand-in, for whoever wants to see one before configuring anything."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from canary_pipeline.commands import dagster_home
from canary_pipeline.commands.exits import Exit, NoDecisionError, answers
from canary_pipeline.commands.flags import adopt, settings_flags
from canary_pipeline.commands.run import ENGINE, roll_out
from canary_pipeline.environments import DEMO, DEMO_VARIABLE
from canary_pipeline.local_staging.faults import FAULTS
from canary_pipeline.local_staging.stand_in import APPLY_COMMAND, StandInError, local_staging
from canary_pipeline.outside.claim import CLAIM_FOLDER_VARIABLE
from canary_pipeline.outside.guard import ended_with_us
from canary_pipeline.planning import Settings, resolve
from canary_pipeline.settings import SettingError

HOME = "demo-dagster"
WATCH_SECONDS = 1

_FOREIGN = ("OA_", "CANARY_PIPELINE_", "LOCAL_STAGING_")
"""What the names of variables begin with that describe somebody's real set-up."""

_LIMITS = {
    "OA_STAGING_CANARY_LIMITS": "+mirror.failed_total<=0, +delivery.dropped_messages_total<=0, "
    "delivery.max_replay_lag<=500, +delivery.total_polls>=1"
}
_TUNING = {
    "OA_STAGING_CANARY_APPLY_COMMAND": APPLY_COMMAND,
    "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": "10",
    "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "3",
    "OA_STAGING_CANARY_WATCH_SECONDS": str(WATCH_SECONDS),
    "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": "5",
}
"""What makes a rollout short enough to watch."""


@contextmanager
def stand_in_environment(
    fault: str | None = None, *, with_limits: bool = True
) -> Iterator[Mapping[str, str]]:
    """Serve a stand-in and make it the staging of this process while the body runs.

    Nothing of a real set-up is left: no setting, no command, no Dagster instance, no claim.

    Args:
        fault: How it misbehaves.
        with_limits: Whether the soaks are long enough to be judged by limits.

    Raises:
        NoDecisionError: When it does not start.
    """
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="local-staging-") as folder:
        try:
            with local_staging(Path(folder), fault=fault) as staging:
                limits = _LIMITS if with_limits else {}
                os.environ.update({**staging.environment, **_TUNING, **limits})
                os.environ[dagster_home.VARIABLE] = str(dagster_home.default_home(HOME))
                os.environ[CLAIM_FOLDER_VARIABLE] = folder
                os.environ[DEMO_VARIABLE] = "1"
                yield staging.environment
        except StandInError as error:
            raise NoDecisionError(str(error)) from None


def demonstrate(settings: Settings) -> Exit:
    """Roll out to the stand-in that serves, and say what to try next."""
    code = roll_out(settings, DEMO, ENGINE, demonstration=True)
    print("next: `make dev` for the same in the Dagster UI; `canary-rollout demo --fault list`")
    return code


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
    with stand_in_environment() as environment:
        home = dagster_home.use_home()
        dagster_home.end_dead_runs(DEMO)
        os.environ[f"{DEMO.variable_prefix}_UI_URL"] = f"http://127.0.0.1:{port}"
        print(f"Dagster UI: http://127.0.0.1:{port} (history in {home})")
        print(f"stand-in: {environment['OA_STAGING_CONTROL_BASE_URL']}", flush=True)
        dagster = Path(sys.executable).with_name("dagster")
        command = [str(dagster), "dev", "-m", "canary_pipeline", "-h", "127.0.0.1", "-p", str(port)]
        child = subprocess.Popen(command)  # noqa: S603 - the engine's own command
        with child, ended_with_us(child):
            while True:
                try:
                    return child.wait()
                except KeyboardInterrupt:
                    child.terminate()


@click.command()
@click.option("--fault", metavar="NAME", help="Let the stand-in misbehave; 'list' shows how.")
@settings_flags("cohorts", "soak_seconds", "output_dir")
def demo_command(fault: str | None, **flags: str | None) -> None:
    """Roll out to a local stand-in for staging, with nothing configured."""
    if fault == "list":
        for name, description in FAULTS.items():
            print(f"{name:22} {description}")
        return
    with answers():
        if fault is not None and fault not in FAULTS:
            raise SettingError("--fault", repr(fault), ", ".join(FAULTS))
        soak_seconds = resolve(DEMO, {}, flags).plan.soak_seconds
        announce(fault)
        watched = soak_seconds >= WATCH_SECONDS
        with stand_in_environment(fault, with_limits=watched):
            adopt(flags, DEMO)
            sys.exit(demonstrate(resolve(DEMO, os.environ, flags)))


@click.command()
@click.option("--port", default=3000, show_default=True, help="Where the UI is served.")
def dev_command(port: int) -> None:
    """Open the Dagster UI with the stand-in behind it."""
    with answers():
        sys.exit(serve_ui(port))
