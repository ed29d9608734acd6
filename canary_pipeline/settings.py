"""The settings, as one class: each with its default, what it accepts and where it is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from canary_pipeline import accepted as a
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.plan import OnBlock
from canary_pipeline.model.text import one_line


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


@dataclass(frozen=True)
class Setting:
    """What a field of `SettingValues` accepts, and where it is read.

    Attributes:
        kind: What is accepted.
        help: One line for `--help` and the README.
        flag: The flag of `canary-rollout run`, or None.
        template: What `variable_of` makes the name of its environment variable from, or None:
            `ENV` is what the environment's variables begin with, such as `OA_STAGING`, and `FIELD`
            the field's name in capitals.
        launch_key: The key in `resources.rollout.config`, or None.
        secret: Whether the value must never be shown.
        name: The field, which is also the key in a file of environments.
    """

    kind: a.Accepted
    help: str
    flag: str | None = None
    template: str | None = "ENV_CANARY_FIELD"
    launch_key: str | None = None
    secret: bool = False
    name: str = ""

    def read(self, source: str, text: str) -> Any:
        """Return the value of this setting as given by one source.

        Raises:
            SettingError: When the text is not accepted.
        """
        try:
            if text:
                return self.kind.parse(text)
        except (ValueError, OSError):  # OSError: a name that is too long, for one
            pass
        raise self.refused(source, text)

    def refused(self, source: str, text: str) -> SettingError:
        """The error that says that this text is not accepted."""
        shown = "not usable (value not shown)" if self.secret else _quoted(self.name, text)
        return SettingError(source, shown if text else "empty", self.kind.words)


_URL_WITHOUT_SECRETS = re.compile(r"([a-zA-Z0-9+.-]*://)?[^@?#:]*(:[0-9]*)?(/[^@?#:]*)?")


def _quoted(name: str, text: str) -> str:
    if name.endswith("_url") and not _URL_WITHOUT_SECRETS.fullmatch(text):
        # A URL that cannot be parsed cannot be cleaned of user info and query either.
        return "not a URL that can be used (value not shown)"
    shown = text if len(text) <= 80 else text[:77] + "…"  # noqa: PLR2004 - a line of a terminal
    return repr(shown)


def _setting(
    kind: a.Accepted, help_: str, flag: str | None = None, *, default: Any = None, **more: Any
) -> Any:
    info = Field(default)
    info.metadata.append(Setting(kind, help_, flag, **more))
    return info


class SettingValues(BaseModel):
    """Every setting: a field is its type, default, what is accepted, help, and where it is read."""

    model_config = ConfigDict(frozen=True, strict=True, validate_default=True)

    # fmt: off
    cohorts: tuple[int, ...] = _setting(
        a.COHORTS, "Percents of users, in order.", "--cohorts", launch_key="cohorts", default=...
    )
    soak_seconds: int = _setting(
        a.seconds(0), "Seconds to wait after each probe that passed.",
        "--cohort-soak-seconds", template="ENV_CANARY_COHORT_SOAK_SECONDS",
        launch_key="cohort_soak_seconds", default=...,
    )
    skip_gates: bool = _setting(
        a.SWITCH, "Dry run: no gate runs, and the decision is block.",
        "--skip-gates", template=None, launch_key="skip_gates", default=False,
    )
    control_base_url: str | None = _setting(
        a.URL, "The control service that each cohort's probe asks.",
        "--control-base-url", template="ENV_CONTROL_BASE_URL",
    )
    auth_token: SecretStr | None = _setting(
        a.TOKEN, "The control service's token. Prefer the variable, or a token file.",
        "--auth-token", template="ENV_CONTROL_AUTH_TOKEN", secret=True,
    )
    auth_token_file: Path | None = _setting(
        a.TOKEN_FILE, "A file that holds the token; read again before every request.",
        template="ENV_CONTROL_AUTH_TOKEN_FILE",
    )
    require_probes: bool = _setting(
        a.SWITCH, "Refuse to start without control base URL and token.",
        "--require-probes", default=False,
    )
    ca_bundle: Path | None = _setting(
        a.CA_BUNDLE, "Authorities to trust; by default the usual ones."
    )
    client_cert: Path | None = _setting(
        a.CLIENT_CERT, "What to show to a server that asks for a certificate."
    )
    runtime_metrics_url: str | None = _setting(
        a.URL, "Read for the runtime_metrics snapshots.",
        "--runtime-metrics-url", template="ENV_RUNTIME_METRICS_URL",
    )
    control_status_url: str | None = _setting(
        a.URL, "Read for the control_status snapshots.",
        "--control-status-url", template="ENV_CONTROL_STATUS_URL",
    )
    repo_root: Path | None = _setting(
        a.FOLDER, "The checkout that holds the gate scripts; by default the current directory.",
        "--repo-root", template="ENV_REPO_ROOT",
    )
    output_dir: Path | None = _setting(
        a.PATH,
        "This rollout's folder; by default a new one under output/canary/spacetime/, a demo's "
        "under output/demo/.",
        "--output-dir", template=None,
    )
    evidence_url: str | None = _setting(
        a.STORE, "Where every host finds the evidence; by default only this one does.",
        template="OA_CANARY_EVIDENCE_URL",
    )
    gate_timeout_seconds: int = _setting(
        a.seconds(1), "A gate that takes longer has failed.", "--gate-timeout-seconds", default=3600
    )
    http_timeout_seconds: int = _setting(
        a.seconds(1), "A probe or snapshot that takes longer has failed.",
        "--http-timeout-seconds", default=30,
    )
    max_parallel_gates: int | None = _setting(
        a.whole_number(1), "How many gates run at once; by default all."
    )
    gate_groups: tuple[tuple[str, ...], ...] = _setting(
        a.groups_of(()), "Gates that run one after another, such as a,b;c,d; by default none.",
        default=(),
    )
    stop_grace_seconds: int | None = _setting(
        a.seconds(0, 600),
        "How long a stopped command may take to end; by default 10 for apply and rollback, "
        "2 for gates.",
    )
    watch_seconds: int = _setting(
        a.seconds(1, 30), "How often staging is looked at in a soak.", default=15
    )
    limits: str | None = _setting(
        a.LIMITS, "What a soak's numbers may reach; by default they block nothing.", "--limits"
    )
    apply_command: str | None = _setting(
        a.COMMAND, "Makes a cohort's variables live, before its probe; by default nothing does.",
        "--apply-command",
    )
    rollback_command: str | None = _setting(
        a.COMMAND, "Restores what was live before; by default the apply command."
    )
    on_block: OnBlock = _setting(
        a.ON_BLOCK, "What becomes of a live cohort when the rollout blocks: rollback or hold.",
        default="rollback",
    )
    verify_timeout_seconds: int = _setting(
        a.seconds(1), "How long staging may take to show what was applied.", default=300
    )
    signing_key: Path | None = _setting(
        a.PATH, "The SSH key that signs decisions; by default they are not signed."
    )
    notify_url: SecretStr | None = _setting(
        a.RECEIVER, "Who is told of decisions; by default nobody.", secret=True
    )
    ui_url: str | None = _setting(
        a.URL, "Where people reach the Dagster UI; by default notices name the summary."
    )
    cron: str = _setting(
        a.CRON, "When the schedule rolls out, once it is switched on.", default="0 6 * * 1-5"
    )
    timezone: str = _setting(a.TIMEZONE, "The time zone of the schedule.", default="UTC")
    # fmt: on


_GROUPS = "gate_groups"

_SETTINGS: Mapping[str, Setting] = {
    name: replace(info.metadata[-1], name=name) for name, info in SettingValues.model_fields.items()
}

_TEMPLATES = {
    name: row.template and row.template.replace("FIELD", name.upper())
    for name, row in _SETTINGS.items()
}


def settings_table(environment: Environment) -> Mapping[str, Setting]:
    """The settings of a rollout of this environment by name, in the order people meet them."""
    return {name: setting_of(environment, name) for name in _SETTINGS}


def setting_of(environment: Environment, name: str) -> Setting:
    """One of them."""
    if name == _GROUPS:
        gates = tuple(gate.name for gate in environment.gates)
        return replace(_SETTINGS[name], kind=a.groups_of(gates))
    return _SETTINGS[name]


def variable_of(environment: Environment, name: str) -> str | None:
    """The environment variable of a setting, or None where it has none."""
    template, stem = _TEMPLATES[name], environment.variable_stem
    if stem == "OA_STAGING" and name in ("runtime_metrics_url", "control_status_url"):
        stem = "OA"  # the names of these two are older than other environments
    return template and template.replace("ENV", stem, 1)


def variables_of(environment: Environment) -> Mapping[str, str]:
    """The environment variables of all settings that have one, by setting name."""
    every = ((name, variable_of(environment, name)) for name in _SETTINGS)
    return {name: variable for name, variable in every if variable}
