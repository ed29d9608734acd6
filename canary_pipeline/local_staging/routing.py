"""Who serves a thread: the routing decision of the control service. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

CanaryScope = Literal["user", "autopilot"]

BUCKETS = 100


def bucket(scope: CanaryScope, identity: str) -> int:
    """The bucket of an id, from 0 to 99: stable, and the same on every host."""
    digest = sha256(f"runtime-canary-v1|{scope}|{identity}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % BUCKETS


def in_canary(scope: CanaryScope, identity: str, percent: int) -> bool:
    """Whether an id belongs to the canary at this percent; a higher percent only adds ids."""
    return bucket(scope, identity) < percent


@dataclass(frozen=True)
class RoutingSettings:
    """What the service reads from its environment when it starts.

    Attributes:
        user_percent: Percent of users in the canary, 0 to 100.
        autopilot_percent: Percent of autopilots in the canary, 0 to 100.
        shadow_enabled: Whether requests are mirrored to the other driver.
        shadow_sample_rate: The share of requests that is mirrored, 0 to 1.
    """

    user_percent: int = 0
    autopilot_percent: int = 0
    shadow_enabled: bool = False
    shadow_sample_rate: float = 0.0

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "RoutingSettings":
        """Read the settings; whatever is not understood reads as off."""
        return cls(
            _percent(variables.get("OA_RUNTIME_CANARY_USER_PERCENT", "")),
            _percent(variables.get("OA_RUNTIME_CANARY_AUTOPILOT_PERCENT", "")),
            variables.get("OA_RUNTIME_SHADOW_ENABLED", "").lower() in ("true", "1", "yes"),
            _share(variables.get("OA_RUNTIME_SHADOW_SAMPLE_RATE", "")),
        )

    def status(self) -> dict[str, Any]:
        """The routing as `runtime-routing/status` tells it."""
        return {
            "default_driver": "control_service",
            "forced_driver": None,
            "force_control_service": False,
            "overrides_enabled": True,
            "canary_user_percent": self.user_percent,
            "canary_autopilot_percent": self.autopilot_percent,
            "shadow": {
                "enabled": self.shadow_enabled,
                "sample_rate": self.shadow_sample_rate,
                "max_capture_bytes": 65536,
            },
            "overrides": [],
        }

    def evaluate(self, user_id: str, autopilot_id: str | None) -> dict[str, Any]:
        """Who would serve a thread of this user, and why."""
        scope: CanaryScope | None = None
        if in_canary("user", user_id, self.user_percent):
            scope = "user"
        elif autopilot_id and in_canary("autopilot", autopilot_id, self.autopilot_percent):
            scope = "autopilot"
        driver = "runtime_service" if scope else "control_service"
        shadow = {
            "enabled": self.shadow_enabled,
            "mirrored": self.shadow_enabled and driver == "control_service",
            "sample_rate": self.shadow_sample_rate,
        }
        decision: dict[str, Any] = {
            "driver": driver,
            "reason": f"{scope}_canary" if scope else "default_driver",
            "default_driver": "control_service",
            "force_control_service": False,
            "shadow": shadow,
        }
        return {**decision, "canary_scope": scope} if scope else decision


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
