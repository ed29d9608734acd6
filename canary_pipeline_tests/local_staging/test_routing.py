"""Bucket arithmetic and settings of the stand-in's control service."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.local_staging.routing import RoutingSettings, bucket, in_canary


@pytest.mark.parametrize(("user", "number"), [("usr_123", 73), ("usr_staging_probe", 20)])
def test_known_buckets(user: str, number: int) -> None:
    assert bucket("user", user) == number


@given(st.text(), st.integers(0, 100), st.integers(0, 100))
def test_a_higher_percent_only_adds_users(user: str, one: int, other: int) -> None:
    lower, higher = sorted((one, other))

    assert in_canary("user", user, lower) <= in_canary("user", user, higher)
    assert not in_canary("user", user, 0)
    assert in_canary("user", user, 100)


@pytest.mark.parametrize(
    ("text", "percent"),
    [("0", 0), ("5", 5), ("100", 100), ("101", 0), ("-1", 0), ("5.0", 0), ("five", 0), ("", 0)],
)
def test_a_percent_that_is_not_understood_is_off(text: str, percent: int) -> None:
    settings = RoutingSettings.read({"OA_RUNTIME_CANARY_USER_PERCENT": text})

    assert settings.user_percent == percent


@pytest.mark.parametrize(
    ("text", "enabled"), [("true", True), ("1", True), ("yes", True), ("on", False), ("", False)]
)
def test_the_shadow_switch(text: str, enabled: bool) -> None:  # noqa: FBT001 - a table's column
    assert RoutingSettings.read({"OA_RUNTIME_SHADOW_ENABLED": text}).shadow_enabled == enabled


@pytest.mark.parametrize(
    ("text", "rate"),
    [("0", 0), ("0.25", 0.25), ("1", 1), ("1.1", 0), ("-0.1", 0), ("nan", 0), ("all", 0), ("", 0)],
)
def test_a_sample_rate_that_is_not_understood_is_off(text: str, rate: float) -> None:
    settings = RoutingSettings.read({"OA_RUNTIME_SHADOW_SAMPLE_RATE": text})

    assert settings.shadow_sample_rate == rate


EVERY_REASON: list[tuple[str, str, dict[str, Any]]] = [
    ("force_control_service", "control_service", {"force_control_service": True}),
    ("force_driver", "runtime_service", {"forced_driver": "runtime_service"}),
    ("user_override", "control_service", {"user_overrides": {"u": "control_service"}}),
    ("autopilot_override", "runtime_service", {"autopilot_overrides": {"a": "runtime_service"}}),
    ("autopilot_binding", "control_service", {"autopilot_bindings": {"a": "control_service"}}),
    ("user_canary", "runtime_service", {"user_percent": 100}),
    ("autopilot_canary", "runtime_service", {"autopilot_percent": 100}),
    ("default_driver", "control_service", {}),
]
"""In order of precedence: a reason, the driver it leads to, and the settings that give it."""


@pytest.mark.parametrize("place", range(len(EVERY_REASON)))
def test_the_first_reason_that_applies_decides(place: int) -> None:
    reason, driver, _ = EVERY_REASON[place]
    applying = {name: value for _, _, more in EVERY_REASON[place:] for name, value in more.items()}

    decision = RoutingSettings(**applying).evaluate("t", "u", "a")

    assert (decision["reason"], decision["driver"]) == (reason, driver)
    assert decision.get("canary_scope", "none") == (
        reason.removesuffix("_canary") if reason.endswith("_canary") else "none"
    )


def test_no_autopilot_is_not_in_the_autopilot_canary() -> None:
    settings = RoutingSettings(autopilot_percent=100)

    assert settings.evaluate("t", "u")["reason"] == "default_driver"


@pytest.mark.parametrize(
    ("settings", "mirrored"),
    [
        (RoutingSettings(shadow_enabled=True, shadow_sample_rate=1), True),
        (RoutingSettings(shadow_enabled=True, shadow_sample_rate=0), False),
        (RoutingSettings(shadow_enabled=False, shadow_sample_rate=1), False),
        (RoutingSettings(shadow_enabled=True, shadow_sample_rate=1, user_percent=100), False),
    ],
)
def test_only_sampled_threads_of_the_control_service_are_mirrored(
    settings: RoutingSettings,
    mirrored: bool,  # noqa: FBT001 - a table's column
) -> None:
    shadow = settings.evaluate("t", "u")["shadow"]

    assert shadow["mirrored"] == mirrored
    assert ("shadow_driver" in shadow) == mirrored
