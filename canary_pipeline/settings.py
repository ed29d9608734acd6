"""Where each setting comes from: launch config, then flag, then environment, then default."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from canary_pipeline.model.plan import (
    Changes,
    Endpoints,
    Environment,
    Plan,
    check_cohorts,
    parse_cohorts,
)
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.token import (
    FixedToken,
    Token,
    TokenFile,
    TokenUnavailableError,
)

LONGEST_SECONDS = 999_999_999
"""Some thirty years: every deadline up to here is a date that can be written down."""


class SettingError(ValueError):
    """A setting has a value that is not accepted; the message names all three."""

    def __init__(self, source: str, value: str, accepted: str) -> None:
        """Say what is wrong.

        Args:
            source: The setting as the user wrote it: a flag, a variable or a launch config key.
            value: The value seen, or a description of it where it must not be shown.
            accepted: What would have been accepted, as the end of a sentence.
        """
        super().__init__(one_line(f"{source} is {value}; accepted: {accepted}"))


def _whole_number(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        digits = text.strip(" \t")
        if not re.fullmatch(r"0|[1-9][0-9]{0,8}", digits):
            raise ValueError(text)
        number = int(digits)
        if not lowest <= number <= LONGEST_SECONDS:
            raise ValueError(text)
        return number

    return parse


def _url(text: str) -> str:
    parts = urlsplit(text)
    readable = all("!" <= character <= "~" for character in text)
    if not readable or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(text)
    if parts.port == 0:  # reading the port also refuses one that is no number
        raise ValueError(text)
    return text


def _existing_folder(text: str) -> Path:
    try:
        folder = _path(text).absolute()
        if not folder.is_dir():
            raise ValueError(text)
    except OSError:  # a name that is too long, for one
        raise ValueError(text) from None
    return folder


def _path(text: str) -> Path:
    if "\0" in text:
        raise ValueError(text)
    text.encode("utf-8")  # what cannot be written down is refused, as a ValueError too
    return Path(text)


def _text(text: str) -> str:
    return text


def _command(text: str) -> str:
    readable = all(character.isprintable() or character in "\n\t" for character in text)
    if not text.strip() or not readable:
        raise ValueError(text)
    return text


def _on_block(text: str) -> str:
    if text not in ("rollback", "hold"):
        raise ValueError(text)
    return text


@dataclass(frozen=True)
class Setting:
    """One row of the settings table.

    Attributes:
        name: The setting's key in the resolved values.
        flag: The flag of `canary-rollout run`, or None.
        variable: The environment variable, or None.
        launch_key: The key in `resources.rollout.config`, or None.
        accepted: What is accepted, in words.
        parse: Turns text into a value; raises ValueError for anything else.
        help: One line for `--help` and the README.
        secret: Whether the value must never be shown.
    """

    name: str
    flag: str | None
    variable: str | None
    launch_key: str | None
    accepted: str
    parse: Callable[[str], Any]
    help: str
    secret: bool = False

    def read(self, source: str, text: str) -> Any:
        """Return the value of this setting as given by one source.

        Raises:
            SettingError: When the text is not accepted.
        """
        try:
            return self.parse(text)
        except ValueError:
            shown = "not usable (value not shown)" if self.secret else _quoted(self.name, text)
            raise SettingError(source, shown, self.accepted) from None


_URL_WITHOUT_SECRETS = re.compile(r"([a-zA-Z+.-]*://)?[^@?#:]*(:[0-9]*)?(/[^@?#:]*)?")


def _quoted(name: str, text: str) -> str:
    if name.endswith("_url") and not _URL_WITHOUT_SECRETS.fullmatch(text):
        # A URL that cannot be parsed cannot be cleaned of user info and query either.
        return "not a URL that can be used (value not shown)"
    shown = text if len(text) <= 80 else text[:77] + "…"  # noqa: PLR2004 - a line of a terminal
    return repr(shown)


_SECONDS = f"a whole number of seconds from {{}} to {LONGEST_SECONDS}"
_COHORTS = "whole numbers from 1 to 100, strictly increasing, such as 5,10,25,50,100"
_A_COMMAND = "a shell command without control characters"
_A_URL = "an http or https URL with a host"


def settings_table(environment: Environment) -> dict[str, Setting]:
    """The settings of a rollout of this environment by name, in the order people meet them."""
    prefix = f"OA_{environment.name.upper()}"
    canary = environment.variable_prefix
    rows = (
        Setting(
            "cohorts", "--cohorts", f"{canary}_COHORTS", "cohorts", _COHORTS, parse_cohorts,
            "Percents of users, in order.",
        ),
        Setting(
            "soak_seconds", "--cohort-soak-seconds", f"{canary}_COHORT_SOAK_SECONDS",
            "cohort_soak_seconds", _SECONDS.format(0), _whole_number(0),
            "Seconds to wait after each probe that passed.",
        ),
        Setting(
            "control_base_url", "--control-base-url", f"{prefix}_CONTROL_BASE_URL", None, _A_URL,
            _url, "The control service that each cohort's probe asks.",
        ),
        Setting(
            "auth_token", "--auth-token", f"{prefix}_CONTROL_AUTH_TOKEN", None,
            "a token of visible ASCII characters", _text,
            "The control service's token. Prefer the variable, or a token file.", secret=True,
        ),
        Setting(
            "auth_token_file", None, f"{prefix}_CONTROL_AUTH_TOKEN_FILE", None,
            "the path of a readable file that holds the token", _path,
            "A file that holds the token; read again before every request.",
        ),
        Setting(
            "runtime_metrics_url", "--runtime-metrics-url", "OA_RUNTIME_METRICS_URL", None, _A_URL,
            _url, "Read for the runtime_metrics snapshots.",
        ),
        Setting(
            "control_status_url", "--control-status-url", "OA_CONTROL_STATUS_URL", None, _A_URL,
            _url, "Read for the control_status snapshots.",
        ),
        Setting(
            "repo_root", "--repo-root", f"{prefix}_REPO_ROOT", None,
            "the path of an existing folder", _existing_folder,
            "The checkout that holds the gate scripts; by default the current directory.",
        ),
        Setting(
            "output_dir", "--output-dir", None, None, "a path", _path,
            "This rollout's folder; by default a new one under output/canary/spacetime/.",
        ),
        Setting(
            "gate_timeout_seconds", "--gate-timeout-seconds", f"{canary}_GATE_TIMEOUT_SECONDS",
            None, _SECONDS.format(1), _whole_number(1), "A gate that takes longer has failed.",
        ),
        Setting(
            "http_timeout_seconds", "--http-timeout-seconds", f"{canary}_HTTP_TIMEOUT_SECONDS",
            None, _SECONDS.format(1), _whole_number(1),
            "A probe or snapshot that takes longer has failed.",
        ),
        Setting(
            "max_parallel_gates", None, f"{canary}_MAX_PARALLEL_GATES", None,
            f"a whole number from 1 to {LONGEST_SECONDS}", _whole_number(1),
            "How many gates run at once; by default all.",
        ),
        Setting(
            "apply_command", "--apply-command", f"{canary}_APPLY_COMMAND", None, _A_COMMAND,
            _command, "Makes a cohort's variables live, before its probe; by default nothing does.",
        ),
        Setting(
            "rollback_command", None, f"{canary}_ROLLBACK_COMMAND", None, _A_COMMAND, _command,
            "Restores what was live before; by default the apply command.",
        ),
        Setting(
            "on_block", None, f"{canary}_ON_BLOCK", None, "rollback or hold", _on_block,
            "What becomes of a live cohort when the rollout blocks.",
        ),
        Setting(
            "verify_timeout_seconds", None, f"{canary}_VERIFY_TIMEOUT_SECONDS", None,
            _SECONDS.format(1), _whole_number(1),
            "How long staging may take to show what was applied.",
        ),
    )  # fmt: skip
    return {row.name: row for row in rows}


@dataclass(frozen=True)
class LaunchConfig:
    """What a launch may choose; None leaves the choice to flag, environment and default."""

    cohorts: tuple[int, ...] | None = None
    soak_seconds: int | None = None
    skip_gates: bool = False


@dataclass(frozen=True)
class Settings:
    """Every setting of one rollout, resolved and validated."""

    plan: Plan
    token: Token | None
    output_dir: Path | None


def read_values(
    environment: Environment, variables: Mapping[str, str], flags: Mapping[str, str | None]
) -> dict[str, Any]:
    """Read every setting that a flag or a variable gives.

    Args:
        environment: What is rolled out to.
        variables: The environment variables; an empty one counts as unset.
        flags: The flags' values by setting name; None where a flag was not given.

    Returns:
        Values by setting name; a setting that nobody gave is absent.

    Raises:
        SettingError: On the first value that is not accepted.
    """
    values: dict[str, Any] = {}
    for setting in settings_table(environment).values():
        flag_text = flags.get(setting.name)
        variable_text = variables.get(setting.variable or "", "")
        if setting.flag is not None and flag_text is not None:
            if not flag_text:
                raise SettingError(setting.flag, "empty", setting.accepted)
            values[setting.name] = setting.read(setting.flag, flag_text)
        elif setting.variable is not None and variable_text:
            values[setting.name] = setting.read(setting.variable, variable_text)
    return values


def declared_cohorts(environment: Environment, variables: Mapping[str, str]) -> tuple[int, ...]:
    """The cohort sequence that the graph is built for.

    Raises:
        SettingError: When its variable holds something else than a cohort sequence.
    """
    declared: tuple[int, ...] | None = _declared(environment, variables, "cohorts")
    return declared or environment.default_cohorts


def declared_soak_seconds(environment: Environment, variables: Mapping[str, str]) -> int:
    """The soak that a launch starts from.

    Raises:
        SettingError: When its variable is no soak.
    """
    declared: int | None = _declared(environment, variables, "soak_seconds")
    return environment.default_soak_seconds if declared is None else declared


def declared_parallel_gates(environment: Environment, variables: Mapping[str, str]) -> int:
    """How many gates may run at once; by default all of them.

    Raises:
        SettingError: When the variable holds no such number.
    """
    declared: int | None = _declared(environment, variables, "max_parallel_gates")
    every = max(len(environment.gates), 1)
    return min(declared or every, every)


def declared_changes(environment: Environment, variables: Mapping[str, str]) -> bool:
    """Whether the graph has a step that rolls back, because rollouts make their cohorts live.

    Raises:
        SettingError: When the variable holds no command.
    """
    return _declared(environment, variables, "apply_command") is not None


def _declared(environment: Environment, variables: Mapping[str, str], name: str) -> Any:
    setting = settings_table(environment)[name]
    variable = setting.variable or ""
    text = variables.get(variable, "")
    return setting.read(variable, text) if text else None


def resolve(
    environment: Environment,
    variables: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    launch: LaunchConfig | None = None,
    declared: tuple[int, ...] | None = None,
) -> Settings:
    """Turn everything that was said into the settings of one rollout.

    Args:
        environment: What is rolled out to.
        variables: The environment variables.
        flags: The flags' values by setting name.
        launch: The launch config.
        declared: The cohorts that the graph was built for; by default those of flag or variable.

    Raises:
        SettingError: When a value is not accepted.
    """
    launch = launch or LaunchConfig()
    values = read_values(environment, variables, flags or {})
    declared = declared or values.get("cohorts", environment.default_cohorts)
    token = _token(environment, values, token_flag=(flags or {}).get("auth_token") is not None)
    plan = Plan(
        environment=environment,
        cohorts=_launched_cohorts(environment, launch, declared),
        soak_seconds=_launched_soak(environment, launch, values),
        skip_gates=launch.skip_gates,
        endpoints=Endpoints(
            values.get("control_base_url"),
            values.get("runtime_metrics_url"),
            values.get("control_status_url"),
        ),
        missing_for_probe=_missing_for_probe(values, token),
        repo_root=values["repo_root"] if "repo_root" in values else Path.cwd(),
        gate_timeout_seconds=values.get("gate_timeout_seconds", 3600),
        http_timeout_seconds=values.get("http_timeout_seconds", 30),
        changes=None if launch.skip_gates else _changes(environment, values, token),
    )
    return Settings(plan, token, values.get("output_dir"))


def check_launch(environment: Environment, launch: LaunchConfig, declared: tuple[int, ...]) -> None:
    """Make sure that a launch chooses only what is accepted.

    Args:
        environment: What is rolled out to.
        launch: The launch config.
        declared: The cohorts that the graph was built for.

    Raises:
        SettingError: When it does not.
    """
    _launched_cohorts(environment, launch, declared)
    _launched_soak(environment, launch, {})


def _token(
    environment: Environment, values: Mapping[str, Any], *, token_flag: bool
) -> Token | None:
    table = settings_table(environment)
    value_setting, file_setting = table["auth_token"], table["auth_token_file"]
    token: Token | None = None
    source, accepted = "", ""
    if "auth_token" in values and "auth_token_file" in values and not token_flag:
        raise SettingError(
            f"{value_setting.variable} and {file_setting.variable}", "both set", "one of them"
        )
    if "auth_token" in values:
        token = FixedToken(values["auth_token"])
        source = f"{value_setting.flag if token_flag else value_setting.variable}"
        accepted = value_setting.accepted
    elif "auth_token_file" in values:
        token = TokenFile(values["auth_token_file"].absolute())
        source, accepted = f"{file_setting.variable}", file_setting.accepted
    if token is not None:
        try:
            token.read()
        except TokenUnavailableError as error:
            raise SettingError(source, f"not usable ({error})", accepted) from None
    return token


def _changes(
    environment: Environment, values: Mapping[str, Any], token: Token | None
) -> Changes | None:
    """How cohorts are made live; a dry run changes nothing."""
    command = values.get("apply_command")
    if command is None:
        return None
    setting = settings_table(environment)["apply_command"]
    source = f"{setting.variable} ({setting.flag})"
    rollback = values.get("rollback_command", command)
    if token is not None and token.read() in f"{command}\n{rollback}":
        accepted = "a command that reads the token from the environment or a file"
        raise SettingError(source, "a command that holds the auth token (not shown)", accepted)
    missing = _missing_for_probe(values, token)
    if missing:
        absent = " and ".join(missing)
        accepted = f"none while {absent} is missing: what cannot be verified is not applied"
        raise SettingError(source, repr(command), accepted)
    return Changes(
        command,
        rollback,
        values.get("on_block", "rollback"),
        values.get("verify_timeout_seconds", 300),
    )


def _missing_for_probe(values: Mapping[str, Any], token: Token | None) -> tuple[str, ...]:
    missing = []
    if "control_base_url" not in values:
        missing.append("control_base_url")
    if token is None:
        missing.append("auth_token")
    return tuple(missing)


def _launched_cohorts(
    environment: Environment, launch: LaunchConfig, declared: tuple[int, ...]
) -> tuple[int, ...]:
    if launch.cohorts is None:
        return declared
    source = "launch config resources.rollout.config.cohorts"
    setting = settings_table(environment)["cohorts"]
    try:
        chosen = check_cohorts(launch.cohorts)
    except ValueError:
        raise SettingError(source, repr(list(launch.cohorts)), _COHORTS) from None
    undeclared = [percent for percent in chosen if percent not in declared]
    if undeclared:
        known = ",".join(map(str, declared))
        accepted = (
            f"a subset of the declared cohorts {known}; to declare others set "
            f"{setting.variable} before the code location loads"
        )
        raise SettingError(source, repr(list(chosen)), accepted)
    return chosen


def _launched_soak(
    environment: Environment, launch: LaunchConfig, values: Mapping[str, Any]
) -> int:
    if launch.soak_seconds is None:
        soak: int = values.get("soak_seconds", environment.default_soak_seconds)
        return soak
    setting = settings_table(environment)["soak_seconds"]
    source = "launch config resources.rollout.config.cohort_soak_seconds"
    launched: int = setting.read(source, str(launch.soak_seconds))
    return launched
