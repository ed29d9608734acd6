"""The validated plan of one rollout: what will run, in which order, and for how long."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

SnapshotKind = Literal["runtime_metrics", "control_status"]
SNAPSHOT_KINDS: tuple[SnapshotKind, ...] = ("runtime_metrics", "control_status")

HIGHEST_PERCENT = 100


@dataclass(frozen=True)
class Gate:
    """A check that must pass before the first cohort.

    Attributes:
        name: The gate's name in rows, logs and the graph, such as `sync-security`.
        command: The shell command, run by `bash -c` in the checkout; exit code 0 passes.
    """

    name: str
    command: str

    @property
    def log_file(self) -> str:
        """The gate's log, relative to the rollout's folder."""
        return f"logs/gate-{self.name}.log"


def variable_prefix(environment: str) -> str:
    """What the names of an environment's own variables begin with, such as `OA_STAGING_CANARY`."""
    return f"OA_{environment.upper()}_CANARY"


@dataclass(frozen=True)
class Environment:
    """What a rollout promotes through. A second environment is a second value of this class.

    Attributes:
        name: A short lower-case word such as `staging`; job, assets and folders carry it.
        title: The heading of the summary that people promote on.
        gates: The checks that must pass before the first cohort.
        default_cohorts: The percents of users, in order, that a rollout goes through.
        default_soak_seconds: How long a cohort whose probe passed is left alone.
        owners: Who is asked about its rollouts: a mail address, or `team:` and a name.
    """

    name: str
    title: str
    gates: tuple[Gate, ...]
    default_cohorts: tuple[int, ...]
    default_soak_seconds: int
    owners: tuple[str, ...] = ()

    @property
    def job_name(self) -> str:
        """The name of the Dagster job, such as `staging_canary_rollout`."""
        return f"{self.name}_canary_rollout"

    @property
    def variable_prefix(self) -> str:
        """What the names of its own environment variables begin with: `OA_STAGING_CANARY`."""
        return variable_prefix(self.name)

    @property
    def asset_group(self) -> str:
        """The group and key prefix of the assets, such as `staging_canary`."""
        return f"{self.name}_canary"


@dataclass(frozen=True)
class Endpoints:
    """Where a rollout asks. Each may be missing; none is ever launch config.

    Attributes:
        control_base_url: The control service, below which the probe's path lies.
        runtime_metrics_url: What the `runtime_metrics` snapshots read.
        control_status_url: What the `control_status` snapshots read.
    """

    control_base_url: str | None = None
    runtime_metrics_url: str | None = None
    control_status_url: str | None = None

    def snapshot_url(self, kind: SnapshotKind) -> str | None:
        """The URL that snapshots of this kind read, or None where none is configured."""
        return self.runtime_metrics_url if kind == "runtime_metrics" else self.control_status_url


OnBlock = Literal["rollback", "hold"]


@dataclass(frozen=True)
class Changes:
    """How a rollout makes its cohorts live, where it does more than ask.

    Attributes:
        apply_command: The shell command that makes a cohort's variables live, run in the checkout.
        rollback_command: The one that makes live again what was live before.
        on_block: What becomes of a cohort that is live when the rollout blocks.
        verify_timeout_seconds: How long staging may take to show what was applied.
    """

    apply_command: str
    rollback_command: str
    on_block: OnBlock
    verify_timeout_seconds: int


@dataclass(frozen=True)
class Plan:
    """Everything that one rollout does, decided before it starts.

    Attributes:
        environment: What is rolled out to.
        cohorts: Percents of users, strictly increasing.
        soak_seconds: Seconds to wait after each probe that passed.
        skip_gates: A dry run: no gate runs, and the decision is `block`.
        endpoints: Where probes and snapshots ask.
        missing_for_probe: The settings whose absence makes every probe a skip; empty when live.
        repo_root: The checkout in which the gates run.
        gate_timeout_seconds: After this long a gate is stopped and has failed.
        http_timeout_seconds: The whole time that a probe or a snapshot may take.
        changes: How cohorts are made live; None where that is somebody else's work.
    """

    environment: Environment
    cohorts: tuple[int, ...]
    soak_seconds: int
    skip_gates: bool
    endpoints: Endpoints
    missing_for_probe: tuple[str, ...]
    repo_root: Path
    gate_timeout_seconds: int
    http_timeout_seconds: int
    changes: Changes | None = None

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates that must pass."""
        return self.environment.gates

    @property
    def probes_are_live(self) -> bool:
        """Whether cohorts are probed, or skipped for missing configuration."""
        return not self.missing_for_probe


def parse_cohorts(text: str) -> tuple[int, ...]:
    """Read a cohort sequence such as `5, 10,25,50,100`.

    Args:
        text: Base-10 whole numbers from 1 to 100 without leading zeros, strictly increasing,
            separated by commas; blanks around an item are allowed.

    Raises:
        ValueError: When the text is anything else.
    """
    items = [item.strip(" \t") for item in text.split(",")]
    if not all(item.isascii() and item.isdigit() and not item.startswith("0") for item in items):
        raise ValueError(text)
    if any(len(item) > len(str(HIGHEST_PERCENT)) for item in items):
        raise ValueError(text)
    return check_cohorts([int(item) for item in items])


def check_cohorts(percents: Sequence[int]) -> tuple[int, ...]:
    """Return the percents as a cohort sequence.

    Raises:
        ValueError: When they are not whole numbers from 1 to 100, strictly increasing.
    """
    in_range = all(1 <= percent <= HIGHEST_PERCENT for percent in percents)
    increasing = all(lower < higher for lower, higher in pairwise(percents))
    if not percents or not in_range or not increasing:
        raise ValueError(percents)
    return tuple(percents)


def origin(url: str) -> tuple[str, str, int]:
    """The scheme, host and port of a URL: what decides whether a token may be sent there."""
    parts = urlsplit(url)
    default_port = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or default_port


def shown_url(url: str) -> str:
    """A URL as people and files may see it: without user info, query values and fragment."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{parts.path}{query}"
