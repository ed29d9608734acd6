"""Flags that commands share, and what becomes of them."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from canary_pipeline.accepted import SWITCH
from canary_pipeline.environments import STAGING, chosen, served
from canary_pipeline.model.environment import Environment
from canary_pipeline.settings import settings_table
from canary_pipeline.store.folder import Evidence

SECRETS = ("control_base_url", "auth_token", "runtime_metrics_url", "control_status_url")
"""What a rollout never writes down, and so must be told again when it goes on."""

MENDABLE = ("repo_root", "gate_timeout_seconds")

_Command = Callable[..., Any]


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


environment_flag = click.option(
    "--environment",
    metavar="NAME",
    help="Which one, of the file that OA_CANARY_ENVIRONMENTS names.",
)

json_flag = click.option(
    "--json", "as_json", is_flag=True, help="Print decision.json, and no more."
)


def environment_of(name: str | None, evidence: Evidence) -> Environment:
    """The environment that a command names, or else that of the rollout that it is about."""
    if name is not None:
        return chosen(name, os.environ, "--environment")
    if not served(os.environ).parts:
        return STAGING
    return chosen(
        evidence.header().environment, os.environ, f"the environment of {evidence.folder}"
    )


def adopt(flags: Mapping[str, str | None], there: Environment) -> None:
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
