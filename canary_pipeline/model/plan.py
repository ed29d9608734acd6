"""The validated plan of one rollout, recorded in `rollout.json` as it is and read back as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SnapshotKind = Literal["runtime_metrics", "control_status"]
SNAPSHOT_KINDS: tuple[SnapshotKind, ...] = ("runtime_metrics", "control_status")

HIGHEST_PERCENT = 100

Percent = Annotated[int, Field(ge=1, le=HIGHEST_PERCENT)]
OnBlock = Literal["rollback", "hold"]

AFTER = "after-"
"""What the name of a gate begins with that judges another environment's newest decision."""


class Recorded(BaseModel):
    """Something that is written down; unknown keys are a newer version's."""

    model_config = ConfigDict(frozen=True, extra="ignore")


@dataclass(frozen=True)
class Gate:
    """A check that must pass before the first cohort.

    Attributes:
        name: The gate's name in rows, logs and the graph, such as `sync-security`.
        command: The shell command, run by `bash -c` in the checkout; exit code 0 passes. Of a
            gate that is named `after-` and an environment, words that say what is judged.
    """

    name: str
    command: str

    @property
    def after(self) -> str | None:
        """The environment whose newest decision is judged; None where the command is run."""
        return self.name.removeprefix(AFTER) if self.name.startswith(AFTER) else None

    @property
    def step(self) -> str:
        """The name of its step, which is one for all environments that others come after."""
        return AFTER.rstrip("-") if self.after else self.name


class Plan(Recorded):
    """Everything that one rollout does, decided before it starts. Holds no secret.

    Attributes:
        environment: The name of what is rolled out to.
        title: The heading of its summary.
        cohorts: Percents of users, strictly increasing.
        declared_cohorts: The sequence that these were chosen from; empty where unknown.
        soak_seconds: Seconds to wait after each probe that passed.
        declared_soak_seconds: The soak without what the launch chose; None where unknown.
        skip_gates: A dry run: no gate runs, and the decision is `block`.
        gates: The gates that must pass.
        gate_groups: Names of gates that run one after another; all others run side by side.
        missing_for_probe: The settings whose absence makes every probe a skip; empty when live.
        control_base_url: The control service, without user info and query values; the same for
            the two URLs that snapshots read.
        repo_root: The checkout in which the gates run.
        gate_timeout_seconds: A gate that takes longer has failed.
        http_timeout_seconds: A probe or a snapshot that takes longer has failed.
        apply_command: What makes a cohort's variables live, run in the checkout; None where the
            rollout only asks.
        rollback_command: What makes live again what was live before.
        on_block: What becomes of a cohort that is live when the rollout blocks.
        verify_timeout_seconds: How long staging may take to show what was applied.
        limits: What the numbers of staging must keep to while a cohort soaks.
        watch_seconds: How often staging is looked at meanwhile.
        stop_grace_seconds: How long a command that is stopped may take to end by itself; None for
            what fits the command.
        thread_id: The thread that a probe asks for; `{percent}` is the cohort. `cohort_key` alike.
        variable_stem: What the names of the environment's variables begin with.
        variables: What gates and commands find in their environment beside this process's own.
    """

    environment: str
    title: str
    cohorts: tuple[Percent, ...]
    declared_cohorts: tuple[Percent, ...] = ()
    soak_seconds: int
    declared_soak_seconds: int | None = None
    skip_gates: bool
    gates: tuple[Gate, ...]
    gate_groups: tuple[tuple[str, ...], ...] = ()
    missing_for_probe: tuple[str, ...]
    control_base_url: str | None
    runtime_metrics_url: str | None
    control_status_url: str | None
    gate_timeout_seconds: int
    http_timeout_seconds: int
    repo_root: str
    apply_command: str | None = None
    rollback_command: str | None = None
    on_block: OnBlock | None = None
    verify_timeout_seconds: int | None = None
    limits: tuple[str, ...] = ()
    watch_seconds: int = 15
    stop_grace_seconds: int | None = None
    thread_id: str = "staging-canary-thread-{percent}"
    cohort_key: str = "user:staging-canary-{percent}"
    variable_stem: str = "OA_STAGING"
    variables: dict[str, str] = Field(default_factory=dict, exclude_if=lambda found: not found)

    @property
    def probes_are_live(self) -> bool:
        """Whether cohorts are probed, or skipped for missing configuration."""
        return not self.missing_for_probe

    @property
    def changes_staging(self) -> bool:
        """Whether the rollout makes its cohorts live itself."""
        return self.apply_command is not None

    @property
    def variable_prefix(self) -> str:
        """What the names of the environment's canary variables begin with."""
        return f"{self.variable_stem}_CANARY"

    def probe_payload(self, percent: int) -> dict[str, str]:
        """What a cohort's probe sends."""
        return {
            "thread_id": self.thread_id.format(percent=percent),
            "cohort_key": self.cohort_key.format(percent=percent),
        }

    def shows(self, kind: SnapshotKind) -> bool:
        """Whether snapshots of this kind are taken."""
        return bool(getattr(self, f"{kind}_url"))

    @property
    def reduced(self) -> str | None:
        """How this rollout is less than what was declared, in words; None where it is not."""
        said = []
        if self.declared_cohorts and self.cohorts != self.declared_cohorts:
            chosen, declared = (
                ",".join(map(str, found)) for found in (self.cohorts, self.declared_cohorts)
            )
            said.append(f"cohort {chosen} of {declared}")
        if self.soak_seconds < (self.declared_soak_seconds or 0):
            said.append(f"soak {self.soak_seconds} of {self.declared_soak_seconds}")
        return ", ".join(said) or None


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
