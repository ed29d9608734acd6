"""Bucket arithmetic and settings of the stand-in's control service."""

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


def test_an_autopilot_can_be_in_the_canary_without_its_user() -> None:
    settings = RoutingSettings(user_percent=0, autopilot_percent=100)

    assert settings.evaluate("usr_123", "ap_1")["reason"] == "autopilot_canary"
    assert settings.evaluate("usr_123", None)["reason"] == "default_driver"
