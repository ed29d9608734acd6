"""The command `canary-rollout`."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from canary_pipeline.accepted import SWITCH
from canary_pipeline.commands.exits import BadInputError, answers
from canary_pipeline.environments import DEMO, STAGING, chosen, served
from canary_pipeline.model.environment import Environment
from canary_pipeline.outside.terminal import protect_output
from canary_pipeline.planning import LaunchConfig, resolve
from canary_pipeline.settings import SettingError, settings_table
from canary_pipeline.sources import PROBING, RESTORING, unknown_variables

if TYPE_CHECKING:
    from canary_pipeline.store.folder import Evidence

SECRETS = ("control_base_url", "auth_token", "runtime_metrics_url", "control_status_url")
"""What a rollout never writes down, and so must be told again when it goes on."""

MENDABLE = ("repo_root", "gate_timeout_seconds")

_Command = Callable[..., Any]
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def settings_flags(*names: str) -> Callable[[_Command], _Command]:
    """Give a command the flags of these settings; all settings by default."""

    def decorate(command: _Command) -> _Command:
        for setting in reversed(list(settings_table(STAGING).values())):
            if setting.flag is None or (names and setting.name not in names):
                continue
            variable = f"  [{setting.variable}]" if setting.variable else ""
            help_text = f"{setting.help}{variable}"
            switch = "true" if setting.kind is SWITCH else None
            command = click.option(
                setting.flag, setting.name, help=help_text, is_flag=bool(switch), flag_value=switch
            )(command)
        return command

    return decorate


_environment_flag = click.option(
    "--environment",
    metavar="NAME",
    help="Which one, of the file that OA_CANARY_ENVIRONMENTS names.",
)


def _environment_of(name: str | None, evidence: "Evidence") -> Environment:
    """The environment that a command names, or else that of the rollout that it is about."""
    if name is not None:
        return chosen(name, os.environ, "--environment")
    if not served(os.environ).parts:
        return STAGING
    return chosen(
        evidence.header().environment, os.environ, f"the environment of {evidence.folder}"
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="canary-pipeline")
def main() -> None:
    """Staged canary rollouts with gates, cohorts, evidence, and a written go or no-go.

    Exit codes: 0 allow, 1 block, 2 bad input, 3 no decision.
    """
    protect_output()
    # A shell's `&` would have SIGINT ignored, and a closed terminal would end us at once.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print decision.json, and no more.")


@main.command()
@_as_json
@_environment_flag
@settings_flags()
def run(as_json: bool, environment: str | None, **flags: str | None) -> None:  # noqa: FBT001
    """Roll out to staging: gates, then cohorts with soaks, then a decision."""
    with answers():
        there = chosen(environment, os.environ, "--environment")
        if not flags["auth_token"]:  # with one, the command is about to start itself again
            others = served(os.environ).parts
            for sentence in unknown_variables(there, os.environ, *others):
                print(f"warning: {sentence}", file=sys.stderr)
        settings = resolve(there, os.environ, flags)
        _adopt(flags, there)
        from canary_pipeline.commands import run as rollout  # noqa: PLC0415 - keeps --help fast

        sys.exit(rollout.roll_out(settings, there, rollout.ENGINE, as_json=as_json))


@main.command()
@click.argument("rollout", metavar="FOLDER|NAME|RUN_ID")
@click.option("--superseded", is_flag=True, help="Go on although a newer rollout has begun.")
@_environment_flag
@settings_flags(*SECRETS, *MENDABLE)
def resume(
    rollout: str,
    superseded: bool,  # noqa: FBT001 - click's
    environment: str | None,
    **flags: str | None,
) -> None:
    """Go on with a rollout that was killed, aborted or blocked, where it stopped."""
    with answers():
        from canary_pipeline.commands import run as going  # noqa: PLC0415 - keeps --help fast

        evidence = going.find_rollout(rollout)
        launch = LaunchConfig(skip_gates=evidence.header().skip_gates)
        there = _environment_of(environment, evidence)
        settings = resolve(there, os.environ, flags, launch)
        _adopt(flags, there)
        code = going.go_on(evidence, settings, there, going.ENGINE, superseded=superseded)
        sys.exit(code)


@main.command()
@click.argument("rollout", metavar="FOLDER|NAME|RUN_ID")
@click.option("--raise", "may_raise", is_flag=True, help="Even above what is live now.")
@click.option("--superseded", is_flag=True, help="Although a newer rollout has begun.")
@_environment_flag
@settings_flags(*SECRETS, *MENDABLE)
def rollback(
    rollout: str,
    *,
    may_raise: bool,
    superseded: bool,
    environment: str | None,
    **flags: str | None,
) -> None:
    """Make live again what was live before a rollout that was killed, held or blocked."""
    with answers():
        from canary_pipeline.commands.rollback import take_back  # noqa: PLC0415 - keeps --help fast
        from canary_pipeline.commands.run import find_rollout  # noqa: PLC0415

        evidence = find_rollout(rollout)
        evidence.header()
        there = _environment_of(environment, evidence)
        settings = resolve(there, os.environ, flags, names=RESTORING)
        _adopt(flags, there)
        code = take_back(evidence, settings, there, may_raise=may_raise, superseded=superseded)
        sys.exit(code)


@main.command()
@click.argument("rollout", metavar="[FOLDER|NAME|RUN_ID]", required=False)
@_as_json
@_environment_flag
@settings_flags(*SECRETS)
def status(
    rollout: str | None,
    as_json: bool,  # noqa: FBT001 - click's
    environment: str | None,
    **flags: str | None,
) -> None:
    """Tell what is live in staging, how a rollout stands, and what a dead one has left.

    Of several environments it tells of all, one after another, unless one is named.
    Exit code 1 says that a rollout which is not at work any more has left a cohort live.
    """
    with answers():
        from canary_pipeline.commands.run import find_rollout  # noqa: PLC0415 - keeps --help fast
        from canary_pipeline.commands.status import tell, tell_all  # noqa: PLC0415

        evidence, every = find_rollout(rollout) if rollout else None, served(os.environ).parts
        if every and not (evidence or environment or as_json or any(flags.values())):
            sys.exit(tell_all(every, os.environ))
        there = (
            _environment_of(environment, evidence)
            if evidence
            else chosen(environment, os.environ, "--environment")
        )
        _adopt(flags, there)
        settings = resolve(there, os.environ, names=PROBING)
        sys.exit(tell(evidence, settings, there, as_json=as_json))


@main.command()
@click.argument("environment", required=False)
def stop(environment: str | None) -> None:
    """Ask the rollout of ENVIRONMENT, on whatever host, to stop: it ends with its summary.

    The request is seen within 20 seconds. It needs OA_CANARY_EVIDENCE_URL; on one machine a signal
    is all it takes, and the command says to which process.
    """
    with answers():
        from canary_pipeline.commands import shared  # noqa: PLC0415 - keeps --help fast

        sys.exit(shared.stop(chosen(environment, os.environ, "ENVIRONMENT")))


@main.command()
@click.argument("environment")
@click.option("--token", type=click.IntRange(min=1), required=True, help="As `status` shows it.")
def release(environment: str, token: int) -> None:
    """Free ENVIRONMENT from a holder that is dead, rather than wait for two minutes.

    A holder that lives loses the environment, stops, and rolls nothing back.
    """
    with answers():
        from canary_pipeline.commands import shared  # noqa: PLC0415 - keeps --help fast

        sys.exit(shared.release(chosen(environment, os.environ, "ENVIRONMENT"), token))


@main.command()
@click.option("--fault", metavar="NAME", help="Let the stand-in misbehave; 'list' shows how.")
@settings_flags("cohorts", "soak_seconds", "output_dir")
def demo(fault: str | None, **flags: str | None) -> None:
    """Roll out to a local stand-in for staging, with nothing configured."""
    from canary_pipeline.local_staging.faults import FAULTS  # noqa: PLC0415 - keeps --help fast

    if fault == "list":
        for name, description in FAULTS.items():
            print(f"{name:22} {description}")
        return
    with answers():
        if fault is not None and fault not in FAULTS:
            raise SettingError("--fault", repr(fault), ", ".join(FAULTS))
        soak_seconds = resolve(DEMO, {}, flags).plan.soak_seconds
        demonstration = _demonstration()
        demonstration.announce(fault)
        watched = soak_seconds >= demonstration.WATCH_SECONDS
        with demonstration.stand_in_environment(fault, with_limits=watched):
            _adopt(flags, DEMO)
            sys.exit(demonstration.demonstrate(resolve(DEMO, os.environ, flags)))


@main.command()
@click.option("--port", default=3000, show_default=True, help="Where the UI is served.")
def dev(port: int) -> None:
    """Open the Dagster UI with the stand-in behind it."""
    with answers():
        sys.exit(_demonstration().serve_ui(port))


def _demonstration() -> ModuleType:
    """The demo, where what its stand-in needs is installed.

    Raises:
        BadInputError: When it is not.
    """
    from canary_pipeline.local_staging import NEEDED  # noqa: PLC0415 - keeps --help fast

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        install = "pip install 'canary-pipeline[demo]'"
        message = f"the stand-in needs {', '.join(missing)}; to install that: {install}"
        raise BadInputError(message)
    from canary_pipeline.commands import demo  # noqa: PLC0415 - keeps --help fast

    return demo


@main.command()
@click.argument("root", required=False)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="How many to tell."
)
@click.option("--picture", metavar="FILE.png", help="Also draw how long these took, and the ends.")
@click.option("--json", is_flag=True, help="Print a JSON object a line.")
@click.option("--limits", is_flag=True, help="Propose limits from passed soaks instead.")
@_environment_flag
def history(
    root: str | None, limit: int, picture: str | None, environment: str | None, **wanted: bool
) -> None:
    """Tell of past rollouts, newest first.

    ROOT is the folder that holds their folders, by default output/canary/spacetime.
    """
    with answers():
        from canary_pipeline.commands import history as listing  # noqa: PLC0415 - keeps --help fast

        name = environment and chosen(environment, os.environ, "--environment").name
        if not wanted["limits"]:
            listing.tell(root, limit, picture, as_json=wanted["json"], environment=name)
        elif picture is not None or wanted["json"]:
            raise BadInputError("--limits is told as text: accepted is no --picture and no --json")
        else:
            listing.propose(root, limit, name)


@main.command()
@click.argument("folder", metavar="FOLDER|NAME|ROOT", type=click.Path(path_type=Path))
@click.option("--commit", metavar="SHA", help="What is to be promoted.")
@click.option("--max-age", metavar="24h", help="How old the decision may be: s, m, h or d.")
@click.option("--signers", metavar="FILE", type=_FILE, help="Allowed signers, as git has them.")
@click.option("--signer", metavar="NAME", help="Which of them must have signed.")
@click.option("--revoked", metavar="FILE", type=_FILE, help="Keys that count no more.")
@click.option("--cohorts", metavar="5,25,100", help="Cohorts that must have been probed.")
@click.option(
    "--cohort-soak-seconds",
    "soak_seconds",
    default=0,
    type=click.IntRange(0),
    help="How long each must have soaked.",
)
@click.option("--environment", metavar="NAME", help="What must have been rolled out to.")
@click.option("--demo", is_flag=True, help="It is a demo that is asked for.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def verify(folder: Path, as_json: bool, **flags: Any) -> None:  # noqa: FBT001 - click's
    """Tell whether one can rely on a decision: on a rollout's, or on the newest one below ROOT.

    Reads only. Exit codes: 0 an allow, 1 a believable block, 2 bad input, 3 nothing to rely on.
    """
    with answers():
        from canary_pipeline.commands import verify as verifying  # noqa: PLC0415 - keeps --help fast
        from canary_pipeline.commands.shared import brought  # noqa: PLC0415

        demands = verifying.demands_of(**flags)
        sys.exit(verifying.tell(brought(str(folder)) or folder, demands, as_json=as_json))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key",
    metavar="FILE",
    type=_FILE,
    envvar=settings_table(STAGING)["signing_key"].variable,
    show_envvar=True,
    help="The SSH key, or a public one whose private half is in the agent.",
)
def sign(folder: Path, key: Path | None) -> None:
    """Verify a decision, then sign it: as a second person, or where no gate ever runs."""
    with answers():
        from canary_pipeline.commands.verify import sign_decision  # noqa: PLC0415 - keeps --help fast

        sys.exit(sign_decision(folder, key))


@main.command()
@click.argument("root", required=False)
@click.option("--keep", default="90d", show_default=True, help="Younger ones stay: 90d, 12h.")
@click.option("--keep-last", default=50, show_default=True, type=click.IntRange(min=0))
@click.option("--dry-run", is_flag=True, help="Only say which would go.")
def prune(root: str | None, keep: str, keep_last: int, *, dry_run: bool) -> None:
    """Delete the folders of old rollouts.

    Never of one that is under way or owes a rollback, nor of the newest of a commit. ROOT is the
    folder that holds their folders, by default output/canary/spacetime.
    """
    with answers():
        from canary_pipeline.commands import prune as pruning  # noqa: PLC0415 - keeps --help fast

        pruning.prune(Path(root or STAGING.output_root), keep, keep_last, dry_run=dry_run)


def _adopt(flags: Mapping[str, str | None], there: Environment) -> None:
    """Turn the flags into variables, which every process of this rollout inherits.

    With a token among them the command starts itself again, so that `ps` does not show it.
    """
    table = settings_table(there)
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
