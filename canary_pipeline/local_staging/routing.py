"""Who serves a thread: the routing decision of the control service. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

CanaryScope = Literal["user", "autopilot"]
Driver = Literal["control_service", "runtime_service"]

BUCKETS = 100

VARIABLES = (
    "OA_RUNTIME_CANARY_USER_PERCENT",
    "OA_RUNTIME_CANARY_AUTOPILOT_PERCENT",
    "OA_RUNTIME_SHADOW_ENABLED",
    "OA_RUNTIME_SHADOW_SAMPLE_RATE",
)
"""What sets the canary and the shadow: read once, when the service starts."""


def bucket(scope: CanaryScope, identity: str) -> int:
    """The bucket of an id, from 0 to 99: stable, and the same on every host."""
    return _hashed(f"runtime-canary-v1|{scope}|{identity}") % BUCKETS


def in_canary(scope: CanaryScope, identity: str, percent: int) -> bool:
    """Whether an id belongs to the canary at this percent; a higher percent only adds ids."""
    return bucket(scope, identity) < percent


@dataclass(frozen=True)
class RoutingSettings:
    """What decides the routing. The environment sets the canary and the shadow, no more.

    Attributes:
        user_percent: Percent of users in the canary, 0 to 100.
        autopilot_percent: Percent of autopilots in the canary, 0 to 100.
        shadow_enabled: Whether threads are mirrored to the other driver.
        shadow_sample_rate: The share of threads that is mirrored, 0 to 1.
        force_control_service: Whether everything goes to the control service, whatever else is set.
        forced_driver: Serves every thread, if set.
        user_overrides: The driver of each user that has one of its own.
        autopilot_overrides: The same for autopilots.
        autopilot_bindings: The driver that each autopilot is bound to, weaker than an override.
    """

    user_percent: int = 0
    autopilot_percent: int = 0
    shadow_enabled: bool = False
    shadow_sample_rate: float = 0.0
    force_control_service: bool = False
    forced_driver: Driver | None = None
    user_overrides: Mapping[str, Driver] = field(default_factory=dict)
    autopilot_overrides: Mapping[str, Driver] = field(default_factory=dict)
    autopilot_bindings: Mapping[str, Driver] = field(default_factory=dict)

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "RoutingSettings":
        """Read the canary and the shadow; whatever is not understood reads as off."""
        users, autopilots, shadow, sample_rate = (variables.get(name, "") for name in VARIABLES)
        return cls(
            _percent(users),
            _percent(autopilots),
            shadow.lower() in ("true", "1", "yes"),
            _share(sample_rate),
        )

    def status(self) -> dict[str, Any]:
        """The routing as `runtime-routing/status` tells it."""
        overrides = [
            {"scope": scope, "id": identity, "driver": driver}
            for scope, drivers in (
                ("user", self.user_overrides),
                ("autopilot", self.autopilot_overrides),
            )
            for identity, driver in drivers.items()
        ]
        return {
            "default_driver": "control_service",
            "forced_driver": self.forced_driver,
            "force_control_service": self.force_control_service,
            "overrides_enabled": True,
            "canary_user_percent": self.user_percent,
            "canary_autopilot_percent": self.autopilot_percent,
            "shadow": {
                "enabled": self.shadow_enabled,
                "sample_rate": self.shadow_sample_rate,
                "max_capture_bytes": 65536,
            },
            "overrides": overrides,
        }

    def evaluate(self, thread_id: str, user_id: str, autopilot_id: str = "") -> dict[str, Any]:
        """Who would serve a thread, and why, as `runtime-routing/evaluate` tells it."""
        reason, driver = self._decide(user_id, autopilot_id)
        decision: dict[str, Any] = {
            "driver": driver,
            "reason": reason,
            "default_driver": "control_service",
            "force_control_service": self.force_control_service,
            "shadow": self._shadow(thread_id, driver),
        }
        if reason.endswith("_canary"):
            decision["canary_scope"] = reason.removesuffix("_canary")
        return decision

    def _decide(self, user: str, autopilot: str) -> tuple[str, Driver]:
        """The first reason that names a driver, in the service's order of precedence."""
        user_canary = in_canary("user", user, self.user_percent)
        autopilot_canary = in_canary("autopilot", autopilot, self.autopilot_percent)
        reasons: list[tuple[str, Driver | None]] = [
            ("force_control_service", "control_service" if self.force_control_service else None),
            ("force_driver", self.forced_driver),
            ("user_override", self.user_overrides.get(user)),
            ("autopilot_override", self.autopilot_overrides.get(autopilot)),
            ("autopilot_binding", self.autopilot_bindings.get(autopilot)),
            ("user_canary", "runtime_service" if user_canary else None),
            ("autopilot_canary", "runtime_service" if autopilot and autopilot_canary else None),
        ]
        decisive = ((reason, driver) for reason, driver in reasons if driver)
        return next(decisive, ("default_driver", "control_service"))

    def _shadow(self, thread_id: str, driver: Driver) -> dict[str, Any]:
        """Whether a thread is mirrored; always the same answer for the same thread."""
        sampled = _hashed(thread_id) / 2**32 < self.shadow_sample_rate
        mirrored = self.shadow_enabled and sampled and driver == "control_service"
        shadow = {
            "enabled": self.shadow_enabled,
            "mirrored": mirrored,
            "sample_rate": self.shadow_sample_rate,
        }
        return {**shadow, "shadow_driver": "runtime_service"} if mirrored else shadow


def _hashed(text: str) -> int:
    return int.from_bytes(sha256(text.encode(errors="surrogatepass")).digest()[:4], "big")


def _percent(text: str) -> int:
    digits = text.strip()
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= len("100")
    number = int(digits) if is_number else 0
    return number if number <= BUCKETS else 0


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        return 0.0
    return share if 0 <= share <= 1 else 0.0
