"""Where settings are read: a flag wins over the environment, that over a file and the default."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from canary_pipeline.model.environment import Environment, FromFile
from canary_pipeline.model.text import one_line
from canary_pipeline.settings import (
    SettingError,
    SettingValues,
    setting_of,
    variable_of,
    variables_of,
)

DECLARED = (
    "cohorts", "soak_seconds", "max_parallel_gates", "gate_groups", "apply_command",
    "notify_url", "ui_url", "cron", "timezone",
)  # fmt: skip
"""What Dagster's definitions are built from, when the code location loads."""

PROBING = (
    "control_base_url", "auth_token", "auth_token_file", "http_timeout_seconds",
    "ca_bundle", "client_cert", "evidence_url",
)  # fmt: skip
"""What it takes to ask what is live, and who rolls out."""

RESTORING = (
    *PROBING, "cohorts", "soak_seconds", "runtime_metrics_url", "control_status_url", "repo_root",
    "gate_timeout_seconds", "stop_grace_seconds", "apply_command", "rollback_command", "on_block",
    "verify_timeout_seconds", "signing_key",
)  # fmt: skip
"""What it takes to restore staging, which nothing else may keep from happening."""

_TOKENS = {"auth_token", "auth_token_file"}


class Reading(NamedTuple):
    """The values of all settings, and for each that somebody gave, where."""

    values: SettingValues
    sources: Mapping[str, str]


_Layer = dict[str, tuple[str, str]]
"""What one kind of source gives: its name and its text, by setting name."""


def read_values(
    environment: Environment,
    variables: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    names: Collection[str] = SettingValues.model_fields,
) -> Reading:
    """Read every setting that a flag, a variable or a file gives.

    Args:
        environment: What is rolled out to.
        variables: The environment variables; an empty one counts as unset.
        flags: The flags' values by setting name; None where a flag was not given.
        names: The settings to read; all others keep their defaults.

    Raises:
        SettingError: On the first value that is not accepted.
    """
    layers = (
        _by_flag(environment, flags or {}, names),
        _by_variable(environment, variables, names),
        *(_by_file(environment, file) for file in environment.files),
    )
    _keep_one_token(layers)
    given = {name: said for layer in reversed(layers) for name, said in layer.items()}
    values: dict[str, Any] = {
        "cohorts": environment.default_cohorts,
        "soak_seconds": environment.default_soak_seconds,
    }
    for name in SettingValues.model_fields:
        if name in given and name in names:
            values[name] = setting_of(environment, name).read(*given[name])
    return Reading(SettingValues(**values), {name: source for name, (source, _) in given.items()})


def by_flag(sources: Mapping[str, str]) -> set[str]:
    """The settings among these, each with where it comes from, that a person gave by flag."""
    return {name for name, source in sources.items() if source.startswith("--")}


def is_given(environment: Environment, name: str, variables: Mapping[str, str]) -> bool:
    """Whether a file or a variable gives a setting, which is told sooner than it is read."""
    by_file = any(name in file.values for file in environment.files)
    return by_file or bool(variables.get(variable_of(environment, name) or ""))


def declared(environment: Environment, variables: Mapping[str, str]) -> SettingValues:
    """What Dagster's definitions are built from; nothing else is looked at.

    Raises:
        SettingError: When one of these is not accepted.
    """
    return read_values(environment, variables, names=DECLARED).values


def evidence_url(environment: Environment, variables: Mapping[str, str]) -> str | None:
    """Where every host finds the evidence, or None where only this one does.

    Raises:
        SettingError: When it is not accepted.
    """
    return read_values(environment, variables, names=("evidence_url",)).values.evidence_url


def _by_flag(
    environment: Environment, flags: Mapping[str, str | None], names: Collection[str]
) -> _Layer:
    said = {name: text for name, text in flags.items() if text is not None and name in names}
    return {name: (f"{setting_of(environment, name).flag}", text) for name, text in said.items()}


def _by_variable(
    environment: Environment, variables: Mapping[str, str], names: Collection[str]
) -> _Layer:
    by_name = ((name, variable_of(environment, name)) for name in names)
    return {
        name: (variable, variables[variable])
        for name, variable in by_name
        if variable and variables.get(variable)
    }


def _by_file(environment: Environment, file: FromFile) -> _Layer:
    layer: _Layer = {}
    for name, raw in file.values.items():
        source, known = f"{file.where}{name}", SettingValues.model_fields
        if name not in known:
            raise SettingError(source, "not a setting", f"{_nearest(name, known)}, for one")
        try:
            layer[name] = (source, _text(raw))
        except TypeError:
            words = setting_of(environment, name).kind.words
            raise SettingError(source, "of another type", words) from None
    return layer


def _text(raw: object) -> str:
    """A file's value as a variable would say it."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, list):
        items = [_text(item) for item in raw]
        return (";" if any("," in item for item in items) else ",").join(items)
    if isinstance(raw, str | int):
        return str(raw)
    raise TypeError


def _keep_one_token(layers: Iterable[_Layer]) -> None:
    """Let the token of the highest source stand, in whichever form it is given."""
    higher: set[str] = set()
    for layer in layers:
        here = _TOKENS & layer.keys()
        if here == _TOKENS and not higher:
            sources = " and ".join(layer[name][0] for name in sorted(here))
            raise SettingError(sources, "both set", "one of them")
        for name in here if higher else ():
            del layer[name]
        higher |= here


def unknown_variables(
    environment: Environment, variables: Mapping[str, str], *others: Environment
) -> list[str]:
    """A sentence for each variable that looks like a setting of this environment and is none.

    Args:
        environment: What is rolled out to.
        variables: The environment variables; an empty one counts as unset.
        others: Environments whose variables may be set beside these.
    """
    every = (environment, *others)
    known = {variable for each in every for variable in variables_of(each).values()}
    prefix = environment.variable_stem
    given = {f"{prefix}_CANARY_ENV_FILE", f"{prefix}_CANARY_CLAIM_TOKEN"}
    return [
        one_line(f"{name} is not a setting; the nearest is {_nearest(name, known)}")
        for name, value in sorted(variables.items())
        if value and name.startswith(f"{prefix}_") and name not in known | given
    ]


def _nearest(name: str, known: Collection[str]) -> str:
    return difflib.get_close_matches(name, sorted(known), 1, 0)[0]
