"""Settings: what is accepted, and that everything else is one clear line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.rollout.credentials import FixedToken, TokenFile
from canary_pipeline.settings import (
    LaunchConfig,
    SettingError,
    Settings,
    declared_cohorts,
    resolve,
    settings_table,
)
from canary_pipeline.staging import STAGING

TABLE = settings_table(STAGING)
SECRET = "tok en"  # noqa: S105 - not a token that could be sent


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("soak_seconds", "0", 0),
        ("soak_seconds", " 900 ", 900),
        ("soak_seconds", "999999999", 999_999_999),
        ("gate_timeout_seconds", "1", 1),
        ("control_base_url", "https://host:8443/base", "https://host:8443/base"),
        ("control_base_url", "http://[::1]:80", "http://[::1]:80"),
        ("cohorts", "5, 100", (5, 100)),
    ],
)
def test_what_is_accepted(name: str, text: str, value: object) -> None:
    assert TABLE[name].read("source", text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("soak_seconds", "-1"),
        ("soak_seconds", "0900"),
        ("soak_seconds", "1.5"),
        ("soak_seconds", "1000000000"),
        ("soak_seconds", "9\n"),
        ("gate_timeout_seconds", "0"),
        ("http_timeout_seconds", "0"),
        ("control_base_url", "host"),
        ("control_base_url", "ftp://host"),
        ("control_base_url", "http://"),
        ("control_base_url", "http://host:99999"),
        ("control_base_url", "http://host:0"),
        ("control_base_url", "http://ho st"),
        ("control_base_url", "http://host\n"),
        ("control_base_url", "http://[::1"),
        ("repo_root", "/no/such/folder"),
        ("repo_root", "a\0b"),
    ],
)
def test_what_is_not_accepted_is_named_with_what_is(name: str, text: str) -> None:
    with pytest.raises(SettingError) as refused:
        TABLE[name].read("--the-flag", text)

    message = str(refused.value)
    assert message.startswith("--the-flag is ")
    assert message.endswith(f"; accepted: {TABLE[name].accepted}")
    assert "\n" not in message


def test_a_url_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(SettingError) as refused:
        TABLE["control_base_url"].read("--control-base-url", "https://user:p4ss@host:port")

    assert "p4ss" not in str(refused.value)


@pytest.mark.parametrize(
    ("flag", "variable", "read"),
    [("flag", "variable", "flag"), (None, "variable", "variable"), (None, "", None)],
)
def test_a_token_by_flag_or_variable(flag: str | None, variable: str, read: str | None) -> None:
    settings = resolve(STAGING, {"OA_STAGING_CONTROL_AUTH_TOKEN": variable}, {"auth_token": flag})

    assert settings.token == (None if read is None else FixedToken(read))


def test_a_token_file_is_kept_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")

    token = resolve(STAGING, {"OA_STAGING_CONTROL_AUTH_TOKEN_FILE": str(file)}).token

    assert token == TokenFile(file)
    file.write_text("two\n")
    assert token.read() == "two"


@pytest.mark.parametrize("content", [None, "", "\n", SECRET, "tökén", "a\nb"])
def test_a_token_file_that_is_of_no_use(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)

    with pytest.raises(SettingError, match="OA_STAGING_CONTROL_AUTH_TOKEN_FILE is not usable"):
        resolve(STAGING, {"OA_STAGING_CONTROL_AUTH_TOKEN_FILE": str(file)})


def test_a_token_that_is_of_no_use_is_not_shown() -> None:
    with pytest.raises(SettingError) as refused:
        resolve(STAGING, {"OA_STAGING_CONTROL_AUTH_TOKEN": SECRET})

    assert SECRET not in str(refused.value)


def test_two_tokens_in_the_environment_are_one_too_many(tmp_path: Path) -> None:
    variables = {
        "OA_STAGING_CONTROL_AUTH_TOKEN": "one",
        "OA_STAGING_CONTROL_AUTH_TOKEN_FILE": str(tmp_path),
    }

    with pytest.raises(SettingError, match="both set"):
        resolve(STAGING, variables)
    assert resolve(STAGING, variables, {"auth_token": "two"}).token == FixedToken("two")


@pytest.mark.parametrize(
    ("launch", "flag", "variable", "cohorts"),
    [
        (None, None, None, (5, 10, 25, 50, 100)),
        (None, None, "1,2", (1, 2)),
        (None, "3,4", "1,2", (3, 4)),
        ((3,), "3,4", "1,2", (3,)),
    ],
)
def test_precedence(
    launch: tuple[int, ...] | None,
    flag: str | None,
    variable: str | None,
    cohorts: tuple[int, ...],
) -> None:
    variables = {"OA_STAGING_CANARY_COHORTS": variable} if variable else {}

    settings = resolve(STAGING, variables, {"cohorts": flag}, LaunchConfig(cohorts=launch))

    assert settings.plan.cohorts == cohorts


@pytest.mark.parametrize("cohorts", [(), (7,), (10, 5), (5, 5), (0,), (101,)])
def test_launched_cohorts_that_are_not_accepted(cohorts: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match=r"launch config resources\.rollout\.config\.cohorts"):
        resolve(STAGING, {}, launch=LaunchConfig(cohorts=cohorts))


def test_an_empty_variable_is_unset_and_an_empty_flag_is_an_error() -> None:
    empty = {setting.variable: "" for setting in TABLE.values() if setting.variable}

    assert resolve(STAGING, empty) == resolve(STAGING, {})
    for name, setting in TABLE.items():
        if setting.flag:
            with pytest.raises(SettingError, match=f"{setting.flag} is empty"):
                resolve(STAGING, {}, {name: ""})


def test_the_defaults_are_the_contracts() -> None:
    plan = resolve(STAGING, {}).plan

    assert plan.cohorts == (5, 10, 25, 50, 100)
    assert plan.soak_seconds == 900
    assert not plan.skip_gates
    assert plan.missing_for_probe == ("control_base_url", "auth_token")
    assert plan.repo_root == Path.cwd()
    assert plan.gate_timeout_seconds == 3600
    assert plan.http_timeout_seconds == 30
    assert declared_cohorts(STAGING, {}) == plan.cohorts


ANYTHING = st.one_of(
    st.text(),
    st.text("0123456789,- "),
    st.from_regex(r"https?://[a-z\[\]:@/?#%0-9]*", fullmatch=True),
    st.integers().map(str),
)


def assert_plan_or_one_line(resolving: Callable[[], Settings]) -> None:
    try:
        outcome: Settings | SettingError = resolving()
    except SettingError as error:
        outcome = error
    if isinstance(outcome, SettingError):
        assert len(str(outcome).splitlines()) == 1


@given(st.sampled_from(list(TABLE)), ANYTHING, st.booleans())
def test_any_text_is_a_valid_setting_or_one_clear_line(
    name: str,
    text: str,
    by_flag: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    setting = TABLE[name]
    flags = {name: text} if by_flag and setting.flag else {}
    variables = {} if flags or not setting.variable else {setting.variable: text}

    assert_plan_or_one_line(lambda: resolve(STAGING, variables, flags))


@given(st.lists(st.integers()), st.integers())
def test_any_launch_config_is_a_plan_or_one_clear_line(cohorts: list[int], soak: int) -> None:
    launch = LaunchConfig(tuple(cohorts), soak)

    assert_plan_or_one_line(lambda: resolve(STAGING, {}, launch=launch))
