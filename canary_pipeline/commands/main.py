"""The command `canary-rollout`: its commands, each imported when it is called."""

import signal
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import click

from canary_pipeline.commands.exits import BadInputError, answers
from canary_pipeline.local_staging import NEEDED
from canary_pipeline.outside.terminal import protect_output


class _Entry(NamedTuple):
    """Where a command is, below this package, and what it does."""

    place: str
    help: str


COMMANDS = {
    "run": _Entry("run:run_command", "Roll out to staging: gates, cohorts, a decision."),
    "resume": _Entry("resume:resume_command", "Go on with a rollout, where it stopped."),
    "rollback": _Entry("rollback:rollback_command", "Make live again what was live before."),
    "status": _Entry("status:status_command", "Tell what is live, and how a rollout stands."),
    "stop": _Entry("shared:stop_command", "Ask a rollout on any host to stop."),
    "release": _Entry("shared:release_command", "Free an environment from a dead holder."),
    "history": _Entry("history:history_command", "Tell of past rollouts, newest first."),
    "verify": _Entry("verify:verify_command", "Tell whether one can rely on a decision."),
    "sign": _Entry("verify:sign_command", "Verify a decision, then sign it."),
    "prune": _Entry("prune:prune_command", "Delete the folders of old rollouts."),
    "demo": _Entry("demo:demo_command", "Roll out to a local stand-in for staging."),
    "dev": _Entry("demo:dev_command", "Open the Dagster UI with the stand-in behind it."),
}


def _refuse_without_its_extra() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        message = f"the stand-in needs {', '.join(missing)}; to install that: "
        raise BadInputError(f"{message}pip install 'canary-pipeline[demo]'")


class _Lazy(click.Group):
    """Imports a command when it is called, so that each takes only the time that it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The names, in the order people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of a name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        with answers():
            if module == "demo":
                _refuse_without_its_extra()
            found = getattr(import_module(f"canary_pipeline.commands.{module}"), name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(
    cls=_Lazy, name="canary-rollout", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="canary-pipeline")
def main() -> None:
    """Staged canary rollouts with gates, cohorts, evidence, and a written go or no-go.

    Exit codes: 0 allow, 1 block, 2 bad input, 3 no decision.
    """
    protect_output()
    # A shell's `&` would have SIGINT ignored, and a closed terminal would end us at once.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
