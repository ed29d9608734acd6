"""The command `canary-rollout`."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from canary_pipeline.commands.exits import CommandError, Exit
from canary_pipeline.environments import STAGING
from canary_pipeline.rollout.attempts import RolloutMismatchError, settled_plan
from canary_pipeline.settings import LaunchConfig, SettingError, resolve, settings_table
from canary_pipeline.store.folder import NotARolloutError

PROBE_SETTINGS = (
    "control_base_url", "auth_token", "runtime_metrics_url", "control_status_url",
)  # fmt: skip
"""What a rollout never writes down, and so must be told again when it goes on."""

_Command = Callable[..., Any]


def settings_flags(*names: str) -> Callable[[_Command], _Command]:
    """Give a command the flags of these settings; all settings by default."""

    def decorate(command: _Command) -> _Command:
        for setting in reversed(settings_table(STAGING).values()):
            if setting.flag is None or (names and setting.name not in names):
                continue
            variable = f"  [{setting.variable}]" if setting.variable else ""
            help_text = f"{setting.help}{variable}"
            command = click.option(setting.flag, setting.name, help=help_text)(command)
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="canary-pipeline")
def main() -> None:
    """Staged canary rollouts with gates, cohorts, evidence, and a written go or no-go.

    Exit codes: 0 allow, 1 block, 2 bad input, 3 no decision.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's `&` would have SIGINT ignored
        signal.signal(number, signal.default_int_handler)


@main.command()
@settings_flags()
@click.option(
    "--skip-gates", is_flag=True, help="Dry run: no gate runs, and the decision is block."
)
def run(skip_gates: bool, **flags: str | None) -> None:  # noqa: FBT001 - click passes by name
    """Roll out to staging: gates, then cohorts with soaks, then a decision."""
    with _answers():
        launch = LaunchConfig(skip_gates=skip_gates)
        settings = resolve(STAGING, os.environ, flags, launch)
        _adopt(flags)
        from canary_pipeline.commands.run import roll_out  # noqa: PLC0415 - keeps --help fast

        sys.exit(roll_out(settings))


@main.command()
@click.argument("rollout", metavar="FOLDER|RUN_ID")
@settings_flags(*PROBE_SETTINGS)
def resume(rollout: str, **flags: str | None) -> None:
    """Go on with a rollout that was killed, aborted or blocked, where it stopped."""
    with _answers():
        from canary_pipeline.commands import run as launching  # noqa: PLC0415 - keeps --help fast
        from canary_pipeline.rollout.restoring import (  # noqa: PLC0415
            recorded_settings,
            refuse_another_apply_command,
        )

        evidence = launching.find_rollout(rollout)
        refuse_another_apply_command(evidence.header(), STAGING, os.environ)
        recorded = recorded_settings(evidence, STAGING)
        settings = resolve(STAGING, {**os.environ, **recorded}, flags)
        settled_plan(settings.plan, evidence.header())
        _adopt(flags)
        os.environ.update(recorded)
        sys.exit(launching.go_on(evidence, STAGING))


@main.command()
@click.argument("rollout", metavar="FOLDER|RUN_ID")
@settings_flags(*PROBE_SETTINGS)
def rollback(rollout: str, **flags: str | None) -> None:
    """Make live again what was live before a rollout that was killed, held or blocked."""
    with _answers():
        from canary_pipeline.commands import run as launching  # noqa: PLC0415 - keeps --help fast

        evidence = launching.find_rollout(rollout)
        evidence.header()
        resolve(STAGING, os.environ, flags)
        _adopt(flags)
        sys.exit(launching.take_back(evidence, STAGING))


@main.command()
@click.argument("rollout", metavar="[FOLDER|RUN_ID]", required=False)
@settings_flags(*PROBE_SETTINGS)
def status(rollout: str | None, **flags: str | None) -> None:
    """Tell what is live in staging, how a rollout stands, and what a dead one has left.

    Exit code 1 says that a rollout which is not at work any more has left a cohort live.
    """
    with _answers():
        from canary_pipeline.commands import run as launching  # noqa: PLC0415 - keeps --help fast
        from canary_pipeline.commands.status import tell  # noqa: PLC0415

        _adopt(flags)
        evidence = launching.find_rollout(rollout) if rollout else None
        variables = {name: value for name, value in os.environ.items() if "_APPLY_" not in name}
        sys.exit(tell(evidence, resolve(STAGING, variables)))


@main.command()
@click.option("--fault", metavar="NAME", help="Let the stand-in misbehave; 'list' shows how.")
@settings_flags("cohorts", "soak_seconds", "output_dir")
def demo(fault: str | None, **flags: str | None) -> None:
    """Roll out to a local stand-in for staging, with nothing configured."""
    from canary_pipeline.commands import demo as demonstration  # noqa: PLC0415 - keeps --help fast
    from canary_pipeline.local_staging.faults import FAULTS  # noqa: PLC0415

    if fault == "list":
        for name, description in FAULTS.items():
            print(f"{name:18} {description}")
        return
    with _answers():
        if fault is not None and fault not in FAULTS:
            raise SettingError("--fault", repr(fault), ", ".join(FAULTS))
        resolve(STAGING, {}, flags)
        demonstration.announce(fault)
        with demonstration.stand_in_environment(fault):
            _adopt(flags)
            settings = resolve(STAGING, os.environ, flags)
            from canary_pipeline.commands.run import roll_out  # noqa: PLC0415 - keeps --help fast

            sys.exit(roll_out(settings, demonstration=True))


@main.command()
@click.option("--port", default=3000, show_default=True, help="Where the UI is served.")
def dev(port: int) -> None:
    """Open the Dagster UI with the stand-in behind it."""
    with _answers():
        from canary_pipeline.commands.demo import serve_ui  # noqa: PLC0415 - keeps --help fast

        sys.exit(serve_ui(port))


@main.command()
@click.argument("root", required=False)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="How many to tell."
)
@click.option("--picture", metavar="FILE.png", help="Also draw how long these took, and the ends.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
def history(root: str | None, limit: int, picture: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Tell of past rollouts, newest first.

    ROOT is the folder that holds their folders, by default output/canary/spacetime.
    """
    with _answers():
        from canary_pipeline.commands import history as listing  # noqa: PLC0415 - keeps --help fast

        listing.tell(root, limit, picture, as_json=as_json)


def _adopt(flags: Mapping[str, str | None]) -> None:
    """Turn the flags into variables, which every process of this rollout inherits.

    With a token among them the command starts itself again, so that `ps` does not show it.
    """
    table = settings_table(STAGING)
    given = {name: value for name, value in flags.items() if value is not None}
    environment = dict(os.environ)
    for name, value in given.items():
        variable = table[name].variable
        if variable is not None:
            environment[variable] = value
    if "auth_token" in given:
        environment.pop(table["auth_token_file"].variable or "", None)
        arguments = without_flag(sys.orig_argv[1:], "--auth-token")
        os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606
    os.environ.update(environment)


def without_flag(arguments: Sequence[str], flag: str) -> list[str]:
    """The arguments without a flag and its value, in either way of writing it."""
    kept: list[str] = []
    skip_value = False
    for argument in arguments:
        if skip_value:
            skip_value = False
        elif argument == flag:
            skip_value = True
        elif not argument.startswith(f"{flag}="):
            kept.append(argument)
    return kept


@contextmanager
def _answers() -> Iterator[None]:
    """Turn what can go wrong into one line and an exit code."""
    try:
        yield
    except SettingError as error:
        _fail(Exit.BAD_INPUT, error)
    except (NotARolloutError, RolloutMismatchError) as error:
        _fail(Exit.BAD_INPUT, error)
    except CommandError as error:
        _fail(error.code, error)
    except KeyboardInterrupt:
        _fail(Exit.NO_DECISION, "interrupted")


def _fail(code: Exit, message: object) -> NoReturn:
    print(f"canary-rollout: {message}", file=sys.stderr)
    sys.exit(code)
