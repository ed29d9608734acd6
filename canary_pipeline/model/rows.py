"""What gates, cohorts and attempts leave behind: the rows of a rollout's evidence."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["passed", "failed", "skipped"]

MISSING_PROBE_CONFIG = "missing_control_base_or_token"
GATES_NOT_PASSED = "gates_not_passed"
EARLIER_COHORT_FAILED = "earlier_cohort_failed"

ALL_GATES = "all"
"""The `gate` of the one row that says that no gate ran."""

SKIPPED_BY_FLAG = "--skip-gates"

Percent = Annotated[int, Field(ge=1, le=100)]


AttemptNumber = Annotated[int, Field(ge=1)]


class Row(BaseModel):
    """A row that is read as strictly as it was written; unknown keys are a newer version's."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    def to_json_object(self) -> dict[str, Any]:
        """The row as it is written: `reason` is absent where nothing needs one."""
        values = self.model_dump()
        optional = {name for name, value in values.items() if value is None} & self.optional_keys()
        return {name: value for name, value in values.items() if name not in optional}

    @classmethod
    def optional_keys(cls) -> frozenset[str]:
        """The keys that are left out, rather than null, when there is nothing to say."""
        return frozenset({"reason"})


class GateRow(Row):
    """How a gate ended.

    Attributes:
        reason: `exit_code`, `signal`, `timeout`, `cannot_start`, `log_not_written`, or
            `--skip-gates`.
        detail: The reason as a sentence.
        exit_code: None where the command did not exit by itself.
        duration_seconds: Wall time by a monotonic clock.
        log_file: Relative to the rollout's folder.
    """

    gate: str
    status: Status
    reason: str | None = None
    detail: str | None = None
    exit_code: int | None = None
    command: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_seconds: float = 0.0
    log_file: str | None = None
    log_sha256: str | None = None
    attempt: AttemptNumber
    run_id: str

    @classmethod
    def optional_keys(cls) -> frozenset[str]:
        """The keys that are left out when there is nothing to say."""
        return frozenset({"reason", "detail"})


class Routing(BaseModel):
    """The canary's settings: who is in it, and whether the others are mirrored.

    Attributes:
        shadow_sample_rate: The share of threads that is mirrored, 0 to 1.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    user_percent: Annotated[int, Field(ge=0, le=100)]
    autopilot_percent: Annotated[int, Field(ge=0, le=100)]
    shadow_enabled: bool
    shadow_sample_rate: Annotated[float, Field(ge=0, le=1)]

    def __str__(self) -> str:
        """The routing in a few words."""
        shadow = f"on at {self.shadow_sample_rate:g}" if self.shadow_enabled else "off"
        percents = f"users {self.user_percent} %, autopilots {self.autopilot_percent} %"
        return f"{percents}, shadow {shadow}"


class LiveRouting(Routing):
    """What staging said was live.

    Attributes:
        seen_at: When it said so.
    """

    seen_at: str


class CohortRow(Row):
    """How a cohort ended.

    Attributes:
        reason: A skip reason, `http_status`, the kind of transport error, or where the rollout
            makes its cohorts live `apply_failed`, `percent_not_live`, `shadow_not_live` or
            `percent_drifted`.
        missing: Which settings were missing, where that is the reason.
        error: A transport error as a sentence.
        response_file: Relative to the rollout's folder; None where no body came.
        probe_seconds: How long the probe took, by a monotonic clock; None where none was sent.
        soak_seconds: The soak that was planned; 0 where nothing soaked.
        duration_seconds: From the cohort's start to its end, by a monotonic clock.
        driver: Who the control service says would serve the probed thread.
        apply_seconds: How long the apply command took.
        live: What was live when the cohort was probed, where the rollout made it so.
        live_after_soak: The same at the end of the soak.
    """

    cohort_percent: Percent
    status: Status
    reason: str | None = None
    missing: list[str] | None = None
    http_status: int | None = None
    error: str | None = None
    response_file: str | None = None
    response_sha256: str | None = None
    probed_at: str | None = None
    probe_seconds: float | None = None
    soak_started_at: str | None = None
    soak_ended_at: str | None = None
    soak_seconds: float = 0.0
    duration_seconds: float = 0.0
    driver: str | None = None
    routing_reason: str | None = None
    apply_exit_code: int | None = None
    apply_seconds: float | None = None
    apply_log_file: str | None = None
    apply_log_sha256: str | None = None
    live: LiveRouting | None = None
    live_after_soak: LiveRouting | None = None
    attempt: AttemptNumber
    run_id: str

    @classmethod
    def optional_keys(cls) -> frozenset[str]:
        """The keys that are left out when there is nothing to say."""
        return frozenset(
            {
                "reason", "missing", "response_sha256", "driver", "routing_reason",
                "probe_seconds", "apply_exit_code", "apply_seconds", "apply_log_file",
                "apply_log_sha256", "live", "live_after_soak",
            }
        )  # fmt: skip


class RollbackRow(Row):
    """How an attempt to restore staging ended.

    Attributes:
        status: `skipped` where the cohort is held on purpose.
        reason: `held`, `rollback_failed`, `rollback_stopped`, `percent_not_live` or
            `shadow_not_live`.
        detail: The reason as a sentence.
        cause: Why staging was to be restored.
        wanted: What was live before the first cohort.
        live: What was live at the end, where staging told.
    """

    status: Status
    reason: str | None = None
    detail: str | None = None
    cause: str
    command: str
    exit_code: int | None = None
    wanted: LiveRouting
    live: LiveRouting | None = None
    started_at: str
    finished_at: str
    duration_seconds: float = 0.0
    log_file: str | None = None
    log_sha256: str | None = None
    attempt: AttemptNumber
    run_id: str

    @classmethod
    def optional_keys(cls) -> frozenset[str]:
        """The keys that are left out when there is nothing to say."""
        return frozenset({"reason", "detail", "live", "log_file", "log_sha256"})


class RolloutWarning(BaseModel):
    """Something a reader of the summary should know that does not block."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: str
    message: str
    at: str
    attempt: int
    run_id: str


AttemptOutcome = Literal["finished", "aborted", "crashed"]


class Attempt(BaseModel):
    """One run that worked on a rollout.

    Attributes:
        gates_to_run: The gates that this attempt runs; others passed before.
        outcome: None while the attempt is under way, and for ever if it was killed.
        detail: What ended it, where it did not finish.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: int
    run_id: str
    launched_by: str
    started_at: str
    gates_to_run: list[str]
    ended_at: str | None = None
    outcome: AttemptOutcome | None = None
    detail: str | None = None


class PlannedGate(BaseModel):
    """A gate as the rollout's header records it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    command: str


class Header(BaseModel):
    """`rollout.json`: what this rollout was. Holds no secret.

    Attributes:
        missing_for_probe: The settings whose absence made probes skip; empty when live.
        commit: The commit of the checkout, or None where it is not under version control.
        dirty: Whether the checkout had uncommitted changes.
        versions: By component.
        sealed: By file of rows, the last link of its hash chain when the last attempt ended.
        apply_command: What makes a cohort live, or None where the rollout only asks.
        live_before: What was live before the first cohort was applied; None before that, and
            again once it is restored.
        applied_percent: The cohort that was applied last, as far as `live_before` is set.
        restoring: Whether a rollback has begun since: what was applied may not be live any more.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    environment: str
    title: str
    started_at: str
    cohorts: list[Percent]
    soak_seconds: int
    skip_gates: bool
    gates: list[PlannedGate]
    missing_for_probe: list[str]
    control_base_url: str | None
    runtime_metrics_url: str | None
    control_status_url: str | None
    gate_timeout_seconds: int
    http_timeout_seconds: int
    repo_root: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    apply_command: str | None = None
    rollback_command: str | None = None
    on_block: str | None = None
    verify_timeout_seconds: int | None = None
    live_before: LiveRouting | None = None
    applied_percent: Percent | None = None
    restoring: bool = False
    attempts: list[Attempt] = []
    sealed: dict[str, str] = {}

    @property
    def run_ids(self) -> list[str]:
        """The Dagster runs that worked on this rollout, oldest first."""
        return [attempt.run_id for attempt in self.attempts]


class InFlight(BaseModel):
    """What a step that has begun and not ended leaves for whoever looks, or comes after it.

    Attributes:
        step: Such as `gate spacetime-chaos` or `cohort 25`.
        phase: Such as `running`, `apply`, `verify`, `probe`, `soak`.
        probe: The cohort's row so far, once its probe has passed.
        soak_ends_at: The wall-clock deadline of the soak.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: str
    phase: str
    started_at: str
    attempt: int
    run_id: str
    probe: CohortRow | None = None
    soak_ends_at: str | None = None
