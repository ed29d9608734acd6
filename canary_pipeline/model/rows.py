"""What gates, cohorts and rollbacks leave behind: the rows of a rollout's evidence."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from canary_pipeline.model.plan import Percent

Status = Literal["passed", "failed", "skipped"]

MISSING_PROBE_CONFIG = "missing_control_base_or_token"
GATES_NOT_PASSED = "gates_not_passed"
EARLIER_COHORT_FAILED = "earlier_cohort_failed"

ALL_GATES = "all"
"""The `gate` of the one row that says that no gate ran."""

SKIPPED_BY_FLAG = "--skip-gates"

NOT_VERIFIED = "rollback_not_verified"
"""The `reason` of a rollback whose command ended well, but nobody could see what is live."""

HELD = "held"
"""The `reason` of a rollback that was not made since the cohort is held on purpose."""

AttemptNumber = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class FileRef:
    """A file that a row names.

    Attributes:
        name: Relative to the rollout's folder.
        sha256: Its digest in hexadecimal as it was when the row was written.
    """

    name: str
    sha256: str


class Row(BaseModel):
    """A row that is read as strictly as it was written; unknown keys are a newer version's.

    A field that ends in `_file` names a file, and one of the same name that ends in `_sha256` holds
    its digest: whatever rows name is checked without a list of it.

    Attributes:
        claim_token: The token of the environment's lease; absent on one machine.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    claim_token: int | None = None

    def files(self) -> list[FileRef]:
        """Every file that the row names and holds the digest of."""
        fields = type(self).model_fields
        stems = [name.removesuffix("_file") for name in fields if name.endswith("_file")]
        pairs = [(getattr(self, f"{stem}_file"), getattr(self, f"{stem}_sha256")) for stem in stems]
        return [FileRef(name, digest) for name, digest in pairs if name and digest]

    def to_json_object(self) -> dict[str, Any]:
        """The row as it is written: `reason` is absent where nothing needs one."""
        values = self.model_dump()
        optional = {*self.optional_keys(), "claim_token"}
        return {k: value for k, value in values.items() if value is not None or k not in optional}

    @classmethod
    def optional_keys(cls) -> frozenset[str]:
        """The keys that are left out, rather than null, when there is nothing to say."""
        return frozenset({"reason"})


class GateRow(Row):
    """How a gate ended.

    Attributes:
        reason: `exit_code`, `signal`, `timeout`, `cannot_start`, `log_not_written`, `not_allowed`
            where another environment's decision is judged, or `--skip-gates`.
        detail: The reason as a sentence.
        exit_code: None where the command did not exit by itself.
        duration_seconds: Wall time by a monotonic clock.
        log_file: Relative to the rollout's folder.
        commit: The checkout's commit before the gate; None where it is not under version control.
        commit_after: The one after it, where that is another.
        dirty: Whether the checkout had uncommitted changes before or after the gate.
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
    commit: str | None = None
    commit_after: str | None = None
    dirty: bool | None = None
    attempt: AttemptNumber
    run_id: str

    @classmethod
    def optional_keys(cls) -> frozenset[str]:
        """The keys that are left out when there is nothing to say."""
        return frozenset({"reason", "detail", "commit_after"})


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
        forced: What sends everybody past the canary, such as `force_control_service`; None where
            nothing does.
    """

    seen_at: str
    forced: str | None = None


class CohortRow(Row):
    """How a cohort ended.

    Attributes:
        reason: A skip reason, `http_status`, the kind of transport error; of what is watched
            `limit_exceeded`, `health_unknown` or `probe_failed_in_soak`; or where the rollout
            makes its cohorts live `apply_failed`, `percent_not_live`, `shadow_not_live`,
            `canary_forced_off` or `percent_drifted`.
        missing: Which settings were missing, where that is the reason.
        error: A transport error as a sentence.
        response_file: Relative to the rollout's folder; None where no body came.
        probe_seconds: How long the probe took, by a monotonic clock; None where none was sent.
        soak_seconds: The soak that was planned; 0 where nothing soaked.
        soaked_seconds: How long it soaked by a monotonic clock; None in rows of an older version.
        soak: Which soak of the cohort it was, as its looks say; None where none was to be taken,
            and in rows of an older version.
        duration_seconds: From the cohort's start to its end, by a monotonic clock.
        driver: Who the control service says would serve the probed thread.
        apply_seconds: How long the apply command took.
        live: What was live when the cohort was probed, where the rollout made it so.
        live_after_soak: The same at the end of the soak.
        health_file: The looks at staging while the cohort soaked, relative to the folder.
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
    soaked_seconds: float | None = None
    soak: int | None = None
    duration_seconds: float = 0.0
    driver: str | None = None
    routing_reason: str | None = None
    apply_exit_code: int | None = None
    apply_seconds: float | None = None
    apply_log_file: str | None = None
    apply_log_sha256: str | None = None
    live: LiveRouting | None = None
    live_after_soak: LiveRouting | None = None
    health_file: str | None = None
    health_sha256: str | None = None
    attempt: AttemptNumber
    run_id: str

    @classmethod
    def optional_keys(cls) -> frozenset[str]:
        """The keys that are left out when there is nothing to say."""
        return frozenset(
            {
                "reason", "missing", "response_sha256", "driver", "routing_reason",
                "probe_seconds", "apply_exit_code", "apply_seconds", "apply_log_file",
                "apply_log_sha256", "live", "live_after_soak", "soaked_seconds", "soak",
                "health_file", "health_sha256",
            }
        )  # fmt: skip


class RollbackRow(Row):
    """How an attempt to restore staging ended.

    Attributes:
        status: `skipped` where the cohort is held on purpose, or somebody has set less since.
        reason: `held`, `not_raised`, `rollback_failed`, `rollback_stopped`,
            `rollback_not_verified`, `percent_not_live` or `shadow_not_live`.
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
