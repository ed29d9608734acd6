"""Settings: what is accepted, and that everything else is one clear line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.environments import STAGING
from canary_pipeline.model.plan import Changes
from canary_pipeline.outside.token import FixedToken, TokenFile
from canary_pipeline.settings import (
    LaunchConfig,
    SettingError,
    Settings,
    declared_changes,
    declared_cohorts,
    declared_soak_seconds,
    resolve,
    settings_table,
)

TABLE = settings_table(STAGING)
SECRET = "tok en"  # noqa: S105 - not a token that could be sent


CONTRACT = {
    "cohorts": ("--cohorts", "OA_STAGING_CANARY_COHORTS"),
    "soak_seconds": ("--cohort-soak-seconds", "OA_STAGING_CANARY_COHORT_SOAK_SECONDS"),
    "control_base_url": ("--control-base-url", "OA_STAGING_CONTROL_BASE_URL"),
    "auth_token": ("--auth-token", "OA_STAGING_CONTROL_AUTH_TOKEN"),
    "auth_token_file": (None, "OA_STAGING_CONTROL_AUTH_TOKEN_FILE"),
    "runtime_metrics_url": ("--runtime-metrics-url", "OA_RUNTIME_METRICS_URL"),
    "control_status_url": ("--control-status-url", "OA_CONTROL_STATUS_URL"),
    "repo_root": ("--repo-root", "OA_STAGING_REPO_ROOT"),
    "output_dir": ("--output-dir", None),
    "gate_timeout_seconds": ("--gate-timeout-seconds", "OA_STAGING_CANARY_GATE_TIMEOUT_SECONDS"),
    "http_timeout_seconds": ("--http-timeout-seconds", "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS"),
    "apply_command": ("--apply-command", "OA_STAGING_CANARY_APPLY_COMMAND"),
    "rollback_command": (None, "OA_STAGING_CANARY_ROLLBACK_COMMAND"),
    "on_block": (None, "OA_STAGING_CANARY_ON_BLOCK"),
    "verify_timeout_seconds": (None, "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS"),
}


MORE = {
    "max_parallel_gates": (None, "OA_STAGING_CANARY_MAX_PARALLEL_GATES"),
    "apply_command": ("--apply-command", "OA_STAGING_CANARY_APPLY_COMMAND"),
    "rollback_command": (None, "OA_STAGING_CANARY_ROLLBACK_COMMAND"),
    "on_block": (None, "OA_STAGING_CANARY_ON_BLOCK"),
    "verify_timeout_seconds": (None, "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS"),
}
"""The settings beside the contract's: for small hosts, and to make cohorts live."""


def test_flags_variables_and_launch_config_are_the_contracts() -> None:
    found = {name: (row.flag, row.variable) for name, row in TABLE.items()}

    assert found == CONTRACT | MORE
    launch_keys = {row.launch_key for row in TABLE.values() if row.launch_key}
    assert launch_keys == {"cohorts", "cohort_soak_seconds"}


def given_by(source: str, name: str, text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Variables and flags that give one setting by its flag or by its variable."""
    flag, variable = CONTRACT[name]
    if source == "flag":
        assert flag
        return {}, {name: text}
    assert variable
    return {variable: text}, {}


def resolved(settings: Settings, name: str) -> Any:
    """A setting's value, wherever it is kept."""
    holders = (settings, settings.plan, settings.plan.endpoints)
    return next(getattr(holder, name) for holder in holders if hasattr(holder, name))


FOLDER = str(Path(__file__).parent)
URLS = ("control_base_url", "runtime_metrics_url", "control_status_url")
TIMES = ("soak_seconds", "gate_timeout_seconds", "http_timeout_seconds")

ACCEPTED = [
    ("cohorts", "5", (5,)),
    ("cohorts", "1,2,3", (1, 2, 3)),
    ("cohorts", " 5 ,\t10 , 100 ", (5, 10, 100)),
    ("soak_seconds", "0", 0),
    *((name, "1", 1) for name in TIMES),
    *((name, " 7200\t", 7200) for name in TIMES),
    *((name, "http://host", "http://host") for name in URLS),
    *((name, "https://u:p@host:1/a?b=c", "https://u:p@host:1/a?b=c") for name in URLS),
    *((name, "HTTP://[::1]:65535/", "HTTP://[::1]:65535/") for name in URLS),
    ("repo_root", FOLDER, Path(FOLDER)),
]

REFUSED = [
    *(
        ("cohorts", text)
        for text in (
            ",", "5,", ",5", "5,,10", "5, ,10", "0", "101", "100,101", "-5", "+5", "5.0", "08",
            "0144", "18446744073709551617", "10,5", "5,5", "5,10,10", "5\n", "5\n,10", "5,\n10",
            "5 10", "five", "0x5", "1e1", "5%", "\u0665", " ", "5;10",
        )
    ),
    *(
        (name, text)
        for name in TIMES
        for text in (
            "-1", "+1", "0900", "00", "1.5", "1e3", "0x10", "1_000", "15m", "nine", " ", "9\n",
            "1 0", "\u0669", "1000000000", "18446744073709551617", "nan", "inf",
        )
    ),
    ("gate_timeout_seconds", "0"),
    ("http_timeout_seconds", "0"),
    *(
        (name, text)
        for name in URLS
        for text in (
            "host", "host:80", "//host", "http:", "http://", "http:///path", "http://:80", "ftp://h",
            "file:///etc/passwd", "http://h:0", "http://h:99999", "http://h:abc", "http://h:-1",
            "http://h o", "http://h\n", "\nhttp://h", "http://[::1", "http://h\u00f6st", " ",
            "javascript:alert(1)", "http://h\x00",
        )
    ),
    *(("repo_root", text) for text in ("/no/such/folder", __file__, "a\0b")),
]  # fmt: skip


@pytest.mark.parametrize("source", ["flag", "variable"])
@pytest.mark.parametrize(("name", "text", "value"), ACCEPTED)
def test_what_is_accepted_by_flag_and_by_variable(
    source: str, name: str, text: str, value: object
) -> None:
    variables, flags = given_by(source, name, text)

    assert resolved(resolve(STAGING, variables, flags), name) == value


@pytest.mark.parametrize("source", ["flag", "variable"])
@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_what_is_refused_by_flag_and_by_variable(source: str, name: str, text: str) -> None:
    variables, flags = given_by(source, name, text)

    with pytest.raises(SettingError) as refused:
        resolve(STAGING, variables, flags)

    message = str(refused.value)
    given = CONTRACT[name][0 if source == "flag" else 1]
    assert message.startswith(f"{given} is ")
    assert message.endswith(f"; accepted: {TABLE[name].accepted}")
    assert len(message.splitlines()) == 1
    if name not in URLS:
        assert repr(text) in message


@pytest.mark.parametrize("text", ["ftp://host/path", "no-scheme.example", "http://host:99999"])
def test_a_url_that_holds_no_secret_is_named_when_it_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match=text):
        resolve(STAGING, {}, {"control_base_url": text})


@pytest.mark.parametrize(
    "text", ["https://user:p4ssw0rd/path", "http://user:p4ssw0rd", "ftp://host/#key=p4ssw0rd"]
)
def test_what_may_be_a_secret_of_a_refused_url_is_not_shown(text: str) -> None:
    """The host forgotten after the password, or the secret in the fragment."""
    with pytest.raises(SettingError) as refused:
        resolve(STAGING, {}, {"control_base_url": text})

    assert "p4ssw0rd" not in str(refused.value)


def test_a_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(SettingError, match="--repo-root is "):
        resolve(STAGING, {}, {"repo_root": "a" * 5000})


def test_a_value_that_is_very_long_does_not_fill_the_screen() -> None:
    with pytest.raises(SettingError) as refused:
        resolve(STAGING, {}, {"cohorts": "5," * 10_000})

    assert len(str(refused.value)) < 300


def test_an_output_dir_by_flag() -> None:
    assert resolve(STAGING, {}, {"output_dir": "some/where"}).output_dir == Path("some/where")
    assert resolve(STAGING, {}).output_dir is None


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


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("s3cret\nhalf", ("s3cret", "half")),
        ("s3cret half", ("s3cret", "half")),
        ("s3crét", ("s3cr",)),
        ("s3cret\x7f", ("s3cret",)),
        ("s3cret\r\nX-Forged: yes", ("s3cret", "Forged")),
        (" s3cret", ("s3cret",)),
    ],
)
@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_a_token_that_is_of_no_use_is_not_shown(
    source: str, token: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"x {token}")
    name, text = ("auth_token_file", str(file)) if source == "file" else ("auth_token", token)
    variables, flags = given_by(source, name, text)

    with pytest.raises(SettingError) as refused:
        resolve(STAGING, variables, flags)

    message = str(refused.value)
    assert len(message.splitlines()) == 1
    assert not any(part in message for part in parts)
    assert refused.value.__suppress_context__


def test_a_token_file_that_is_a_folder_is_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read: Is a directory"):
        resolve(STAGING, {"OA_STAGING_CONTROL_AUTH_TOKEN_FILE": str(tmp_path)})


def test_a_token_file_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("one")
    monkeypatch.chdir(tmp_path)
    token = resolve(STAGING, {"OA_STAGING_CONTROL_AUTH_TOKEN_FILE": "token"}).token

    monkeypatch.chdir(os.sep)

    assert token
    assert token.read() == "one"


def test_a_token_is_not_shown_by_whatever_prints_the_settings() -> None:
    settings = resolve(STAGING, {"OA_STAGING_CONTROL_AUTH_TOKEN": "s3cret"})

    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)


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


@pytest.mark.parametrize(
    ("launch", "flag", "variable", "soak"),
    [
        (None, None, None, 900),
        (None, None, "0", 0),
        (None, "2", "1", 2),
        (0, "2", "1", 0),
        (3, None, None, 3),
    ],
)
def test_precedence_of_the_soak(
    launch: int | None, flag: str | None, variable: str | None, soak: int
) -> None:
    variables = {"OA_STAGING_CANARY_COHORT_SOAK_SECONDS": variable} if variable else {}

    settings = resolve(
        STAGING, variables, {"soak_seconds": flag}, LaunchConfig(soak_seconds=launch)
    )

    assert settings.plan.soak_seconds == soak
    assert declared_soak_seconds(STAGING, variables) == int(variable or 900)


REFUSABLE = [name for name, row in CONTRACT.items() if all(row) and name != "apply_command"]


@pytest.mark.parametrize("name", REFUSABLE)
def test_a_flag_is_read_instead_of_its_variable(name: str) -> None:
    """Even where the variable holds what could not be accepted."""
    flag_value = {"auth_token": "good", "repo_root": FOLDER, "cohorts": "5"}
    good = flag_value.get(name, "http://host" if name in URLS else "1")
    variables = {str(CONTRACT[name][1]): "no good\n"}

    resolve(STAGING, variables, {name: good})

    with pytest.raises(SettingError):
        resolve(STAGING, variables)


@pytest.mark.parametrize("cohorts", [(5,), (100,), (5, 100), (10, 25, 50), (5, 10, 25, 50, 100)])
def test_a_launch_may_choose_an_ordered_subset(cohorts: tuple[int, ...]) -> None:
    assert resolve(STAGING, {}, launch=LaunchConfig(cohorts=cohorts)).plan.cohorts == cohorts


def test_a_launch_is_told_how_to_declare_a_cohort() -> None:
    with pytest.raises(SettingError) as refused:
        resolve(STAGING, {}, launch=LaunchConfig(cohorts=(5, 7)), declared=(5, 10))

    message = str(refused.value)
    assert "[5, 7]" in message
    assert "declared cohorts 5,10" in message
    assert "OA_STAGING_CANARY_COHORTS" in message


@pytest.mark.parametrize("soak", [-1, 1_000_000_000])
def test_a_launched_soak_that_is_not_accepted(soak: int) -> None:
    with pytest.raises(SettingError, match=rf"config\.cohort_soak_seconds is '{soak}'"):
        resolve(STAGING, {}, launch=LaunchConfig(soak_seconds=soak))


@pytest.mark.parametrize("skip", [True, False])
def test_skipping_the_gates_is_up_to_the_launch(skip: bool) -> None:  # noqa: FBT001
    assert resolve(STAGING, {}, launch=LaunchConfig(skip_gates=skip)).plan.skip_gates == skip


@pytest.mark.parametrize(
    ("base", "token", "missing"),
    [
        ("", "", ("control_base_url", "auth_token")),
        ("http://host", "", ("auth_token",)),
        ("", "token", ("control_base_url",)),
        ("http://host", "token", ()),
    ],
)
def test_probes_are_live_only_with_both_base_url_and_token(
    base: str, token: str, missing: tuple[str, ...]
) -> None:
    variables = {"OA_STAGING_CONTROL_BASE_URL": base, "OA_STAGING_CONTROL_AUTH_TOKEN": token}

    plan = resolve(STAGING, variables).plan

    assert plan.missing_for_probe == missing
    assert plan.probes_are_live == (not missing)


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


LIVE = {
    "OA_STAGING_CONTROL_BASE_URL": "http://host",
    "OA_STAGING_CONTROL_AUTH_TOKEN": "secret-token",
}
APPLYING = {**LIVE, "OA_STAGING_CANARY_APPLY_COMMAND": "apply"}


def test_without_an_apply_command_nothing_is_changed() -> None:
    others = {
        "OA_STAGING_CANARY_ROLLBACK_COMMAND": "back",
        "OA_STAGING_CANARY_ON_BLOCK": "hold",
        "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": "5",
    }

    assert resolve(STAGING, {**LIVE, **others}).plan.changes is None
    assert not declared_changes(STAGING, {**LIVE, **others})


def test_the_apply_command_rolls_back_too_unless_another_does() -> None:
    assert declared_changes(STAGING, APPLYING)
    assert resolve(STAGING, APPLYING).plan.changes == Changes("apply", "apply", "rollback", 300)
    assert resolve(STAGING, LIVE, {"apply_command": "apply"}).plan.changes == Changes(
        "apply", "apply", "rollback", 300
    )
    more = {
        "OA_STAGING_CANARY_ROLLBACK_COMMAND": "back",
        "OA_STAGING_CANARY_ON_BLOCK": "hold",
        "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": "5",
    }
    changes = resolve(STAGING, {**APPLYING, **more}).plan.changes
    assert changes == Changes("apply", "back", "hold", 5)


def test_a_dry_run_changes_nothing() -> None:
    launch = LaunchConfig(skip_gates=True)

    assert resolve(STAGING, APPLYING, launch=launch).plan.changes is None


@pytest.mark.parametrize("missing", list(LIVE))
def test_what_cannot_be_verified_is_not_applied(missing: str) -> None:
    with pytest.raises(SettingError, match="what cannot be verified is not applied"):
        resolve(STAGING, {**APPLYING, missing: ""})


@pytest.mark.parametrize("name", ["APPLY", "ROLLBACK"])
@pytest.mark.parametrize("base_url", ["http://host", ""])
def test_a_command_that_holds_the_token_is_refused_and_never_shown(
    base_url: str, name: str
) -> None:
    variables = {
        **APPLYING,
        "OA_STAGING_CONTROL_BASE_URL": base_url,
        f"OA_STAGING_CANARY_{name}_COMMAND": "curl -H 'Bearer secret-token' x",
    }

    with pytest.raises(SettingError, match="holds the auth token") as caught:
        resolve(STAGING, variables)

    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("apply_command", " "),
        ("apply_command", "a\0b"),
        ("rollback_command", "\t\n"),
        ("on_block", "HOLD"),
        ("on_block", "keep"),
        ("verify_timeout_seconds", "0"),
        ("verify_timeout_seconds", "5m"),
    ],
)
def test_how_staging_is_changed_is_checked_even_where_nothing_is(name: str, text: str) -> None:
    variable = TABLE[name].variable or ""

    with pytest.raises(SettingError, match=f"{variable} is .*; accepted: "):
        resolve(STAGING, {**LIVE, variable: text})
