"""From settings to the plan of one rollout: what a launch may choose, and what goes together."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canary_pipeline.model.environment import Environment
from canary_pipeline.model.limits import Limit, parse_limits
from canary_pipeline.model.plan import Plan
from canary_pipeline.model.urls import shown_url
from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.outside.endpoints import URLS, Endpoints
from canary_pipeline.outside.redaction import url_secrets
from canary_pipeline.outside.tls import Tls
from canary_pipeline.outside.token import (
    FixedToken,
    Redactor,
    Token,
    TokenFile,
    TokenUnavailableError,
)
from canary_pipeline.settings import SettingError, SettingValues, setting_of, variable_of
from canary_pipeline.sources import Reading, by_flag, read_values

LAUNCH_CONFIG = "launch config resources.rollout.config"


@dataclass(frozen=True)
class LaunchConfig:
    """What a launch may choose; None leaves the choice to flag, environment, file and default."""

    cohorts: tuple[int, ...] | None = None
    soak_seconds: int | None = None
    skip_gates: bool = False


@dataclass(frozen=True)
class Settings:
    """Every setting of one rollout, resolved and validated.

    Attributes:
        plan: What the rollout does.
        endpoints: Where it asks.
        token: What it asks with.
        values: Every setting by itself.
        sources: Where each setting comes from that somebody gave.
    """

    plan: Plan
    endpoints: Endpoints
    token: Token | None
    values: SettingValues
    sources: Mapping[str, str]

    @property
    def redactor(self) -> Redactor:
        """Knows every secret among them."""
        urls = [getattr(self.endpoints, name) for name in URLS]
        receiver = self.values.notify_url
        known = [*filter(None, urls), *([receiver.get_secret_value()] if receiver else [])]
        return Redactor(self.token, (secret for url in known for secret in url_secrets(url)))

    @property
    def control(self) -> ControlService:
        """Staging, as far as it can be asked."""
        tls = Tls(self.values.ca_bundle, self.values.client_cert)
        seconds = self.plan.http_timeout_seconds
        return ControlService(self.endpoints, self.token, seconds, tls)

    @property
    def parallel_gates(self) -> int:
        """How many gates may run at once."""
        every = max(len(self.plan.gates), 1)
        return min(self.values.max_parallel_gates or every, every)


def resolve(
    environment: Environment,
    variables: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    launch: LaunchConfig | None = None,
    *,
    declared: tuple[int, ...] | None = None,
    names: Collection[str] = SettingValues.model_fields,
) -> Settings:
    """Turn everything that was said into the settings of one rollout.

    Args:
        environment: What is rolled out to.
        variables: The environment variables.
        flags: The flags' values by setting name.
        launch: The launch config.
        declared: The cohorts that the graph was built for; by default those that were read.
        names: The settings to read; all others keep their defaults.

    Raises:
        SettingError: When a value is not accepted, or does not go with another one.
    """
    launch = launch or LaunchConfig()
    reading = read_values(environment, variables, flags, names)
    values = reading.values
    declared = declared or values.cohorts
    skip_gates = launch.skip_gates or values.skip_gates
    check_launch(environment, launch, declared)
    token = _token(environment, reading)
    missing = _missing_for_probe(environment, reading)
    chosen = by_flag(reading.sources)
    usual_cohorts, usual_soak = environment.default_cohorts, environment.default_soak_seconds
    declared_cohorts = usual_cohorts if "cohorts" in chosen else declared
    declared_soak = usual_soak if "soak_seconds" in chosen else values.soak_seconds
    plan = Plan(
        environment=environment.name,
        title=environment.title,
        cohorts=launch.cohorts or declared,
        declared_cohorts=declared_cohorts,
        soak_seconds=soak_of(values, launch),
        declared_soak_seconds=declared_soak,
        skip_gates=skip_gates,
        gates=environment.gates,
        gate_groups=values.gate_groups,
        missing_for_probe=missing,
        control_base_url=_shown(values.control_base_url),
        runtime_metrics_url=_shown(values.runtime_metrics_url),
        control_status_url=_shown(values.control_status_url),
        repo_root=str(values.repo_root or Path.cwd()),
        gate_timeout_seconds=values.gate_timeout_seconds,
        http_timeout_seconds=values.http_timeout_seconds,
        stop_grace_seconds=values.stop_grace_seconds,
        limits=tuple(map(str, _limits(reading, launch, live=not missing))),
        watch_seconds=values.watch_seconds,
        thread_id=environment.thread_id,
        cohort_key=environment.cohort_key,
        variable_stem=environment.variable_stem,
        variables=dict(environment.command_variables),
        **({} if skip_gates else _changes(reading, token)),
    )
    endpoints = Endpoints(
        values.control_base_url, values.runtime_metrics_url, values.control_status_url
    )
    return Settings(plan, endpoints, token, values, reading.sources)


def soak_of(values: SettingValues, launch: LaunchConfig) -> int:
    """The soak that a launch ends up with, in seconds."""
    return values.soak_seconds if launch.soak_seconds is None else launch.soak_seconds


def _limits(reading: Reading, launch: LaunchConfig, *, live: bool) -> tuple[Limit, ...]:
    """The limits that soaks are judged by; refused where they could not be."""
    values = reading.values
    if values.limits is None:
        return ()
    source, soak_seconds = reading.sources["limits"], soak_of(values, launch)
    if values.runtime_metrics_url is None or not live:
        accepted = "none without the runtime metrics URL, the control base URL and a token"
        raise SettingError(source, repr(values.limits), accepted)
    if soak_seconds < values.watch_seconds:
        accepted = f"at least the {values.watch_seconds} s from look to look, as {source} is set"
        given = reading.sources.get("soak_seconds", "the soak")
        if launch.soak_seconds is not None:
            given = f"{LAUNCH_CONFIG}.cohort_soak_seconds"
        raise SettingError(given, f"{soak_seconds} s", accepted)
    return parse_limits(values.limits)


def _shown(url: str | None) -> str | None:
    return None if url is None else shown_url(url)


def check_launch(environment: Environment, launch: LaunchConfig, declared: tuple[int, ...]) -> None:
    """Make sure that a launch chooses only what is accepted.

    Args:
        environment: What is rolled out to.
        launch: The launch config.
        declared: The cohorts that the graph was built for.

    Raises:
        SettingError: When it does not.
    """
    if launch.soak_seconds is not None:
        soak, source = str(launch.soak_seconds), f"{LAUNCH_CONFIG}.cohort_soak_seconds"
        setting_of(environment, "soak_seconds").read(source, soak)
    if launch.cohorts is None:
        return
    source = f"{LAUNCH_CONFIG}.cohorts"
    setting_of(environment, "cohorts").read(source, ",".join(map(str, launch.cohorts)))
    if not set(launch.cohorts) <= set(declared):
        accepted = (
            f"a subset of the declared cohorts {','.join(map(str, declared))}; to declare others "
            f"set {variable_of(environment, 'cohorts')} before the code location loads"
        )
        raise SettingError(source, repr(list(launch.cohorts)), accepted)


def _token(environment: Environment, reading: Reading) -> Token | None:
    value, file = reading.values.auth_token, reading.values.auth_token_file
    if value is not None:
        return FixedToken(value.get_secret_value())
    if file is None:
        return None
    token = TokenFile(file)
    try:
        token.read()
    except TokenUnavailableError as error:
        accepted = setting_of(environment, "auth_token_file").kind.words
        source = reading.sources["auth_token_file"]
        raise SettingError(source, f"not usable ({error})", accepted) from None
    return token


def _missing_for_probe(environment: Environment, reading: Reading) -> tuple[str, ...]:
    """What no cohort is probed without: all of it or nothing, since a half is a mistake."""
    given = reading.sources
    token = next((given[name] for name in ("auth_token", "auth_token_file") if name in given), None)
    url = given.get("control_base_url")
    base, value, file = (
        variable_of(environment, name)
        for name in ("control_base_url", "auth_token", "auth_token_file")
    )
    names = {"control_base_url": f"{base}", "auth_token": f"{value} (or {file})"}
    if (url is None) != (token is None):
        missing = names["auth_token" if token is None else "control_base_url"]
        both = "both, so that cohorts are probed, or neither"
        raise SettingError(missing, f"not set, but {url or token} is", both)
    if url is not None:
        return ()
    if reading.values.require_probes:
        accepted = f"it together with {' and '.join(names.values())}"
        raise SettingError(given["require_probes"], "true, but nothing can be probed", accepted)
    return tuple(names)


def _changes(reading: Reading, token: Token | None) -> dict[str, Any]:
    """How cohorts are made live."""
    values = reading.values
    command = values.apply_command
    if command is None:
        return {}
    rollback = values.rollback_command or command
    secret = token.read() if token else None
    for name, text in (("apply_command", command), ("rollback_command", rollback)):
        if secret is not None and secret in text:
            accepted = "a command that reads the token from the environment or a file"
            raise SettingError(
                reading.sources[name], "a command that holds the auth token (not shown)", accepted
            )
    if secret is None:
        accepted = (
            "none while control_base_url and auth_token are missing: what cannot be verified is "
            "not applied"
        )
        raise SettingError(reading.sources["apply_command"], repr(command), accepted)
    return {
        "apply_command": command,
        "rollback_command": rollback,
        "on_block": values.on_block,
        "verify_timeout_seconds": values.verify_timeout_seconds,
    }
