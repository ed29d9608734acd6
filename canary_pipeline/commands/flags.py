"""Flags that commands share, and what becomes of them."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from canary_pipeline.accepted import SWITCH
from canary_pipeline.environments import STAGING, chosen, served
from canary_pipeline.model.environment import Environment
from canary_pipeline.settings import setting_of, settings_table, variables_of
from canary_pipeline.store.folder import Evidence

SECRETS = ("control_base_url", "auth_token", "runtime_metrics_url", "control_status_url")
"""What a rollout never writes down, and so must be told again when it goes on."""

_Command = Callable[..., Any]


def settings_flags(*names: str) -> Callable[[_Command], _Command]:
    """Give a command the flags that these settings have; of all settings by default."""

    def decorate(command: _Command) -> _Command:
        variables = variables_of(STAGING)
        for setting in reversed(list(settings_table(STAGING).values())):
            if setting.flag is None or (names and setting.name not in names):
                continue
            variable = variables.get(setting.name)
            help_text = f"{setting.help}  [{variable}]" if variable else setting.help
            switch: dict[str, Any] = (
                {"is_flag": True, "flag_value": "true"} if setting.kind is SWITCH else {}
            )
            command = click.option(setting.flag, setting.name, help=help_text, **switch)(command)
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


def refuse_unusable(flags: Mapping[str, str | None]) -> None:
    """Refuse a flag whose value is none by itself, whatever else is set.

    Raises:
        SettingError: On the first.
    """
    for name, text in flags.items():
        if text is not None:
            setting = setting_of(STAGING, name)
            setting.read(f"{setting.flag}", text)


def adopt(flags: Mapping[str, str | None], there: Environment) -> None:
    """Turn the flags into variables, which every process of this rollout inherits.

    With a token among them the command starts itself again, so that `ps` does not show it.
    """
    variables = variables_of(there)
    given = {name: value for name, value in flags.items() if value is not None}
    by_variable = {variables[name]: value for name, value in given.items() if name in variables}
    environment = {**os.environ, **by_variable}
    if "auth_token" in given:
        environment.pop(variables["auth_token_file"], None)
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
