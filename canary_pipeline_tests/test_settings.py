"""Settings: what is accepted, and that everything else is one clear line."""

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.environments import STAGING
from canary_pipeline.model.environment import Environment, FromFile
from canary_pipeline.model.plan import Plan
from canary_pipeline.outside.token import FixedToken, TokenFile
from canary_pipeline.planning import LaunchConfig, Settings, resolve
from canary_pipeline.settings import SettingError, settings_table, variables_of
from canary_pipeline.sources import RESTORING, declared, unknown_variables

TABLE = settings_table(STAGING)
VARIABLES = variables_of(STAGING)
BASE_VARIABLE = "OA_STAGING_CONTROL_BASE_URL"
BASE = {BASE_VARIABLE: "http://host"}
TOKEN_VARIABLE = "OA_STAGING_CONTROL_AUTH_TOKEN"  # noqa: S105 - a name
FILE_VARIABLE = "OA_STAGING_CONTROL_AUTH_TOKEN_FILE"
SECRET = "tok en"  # noqa: S105 - not a token that could be sent

LIVE = {**BASE, TOKEN_VARIABLE: "secret-token"}


CONTRACT = {
    "skip_gates": ("--skip-gates", None),
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
    "max_parallel_gates": (None, "OA_STAGING_CANARY_MAX_PARALLEL_GATES"),
    "gate_groups": (None, "OA_STAGING_CANARY_GATE_GROUPS"),
    "stop_grace_seconds": (None, "OA_STAGING_CANARY_STOP_GRACE_SECONDS"),
    "require_probes": ("--require-probes", "OA_STAGING_CANARY_REQUIRE_PROBES"),
    "watch_seconds": (None, "OA_STAGING_CANARY_WATCH_SECONDS"),
    "limits": ("--limits", "OA_STAGING_CANARY_LIMITS"),
    "signing_key": (None, "OA_STAGING_CANARY_SIGNING_KEY"),
    "ca_bundle": (None, "OA_STAGING_CANARY_CA_BUNDLE"),
    "client_cert": (None, "OA_STAGING_CANARY_CLIENT_CERT"),
    "evidence_url": (None, "OA_CANARY_EVIDENCE_URL"),
    "notify_url": (None, "OA_STAGING_CANARY_NOTIFY_URL"),
    "ui_url": (None, "OA_STAGING_CANARY_UI_URL"),
    "cron": (None, "OA_STAGING_CANARY_CRON"),
    "timezone": (None, "OA_STAGING_CANARY_TIMEZONE"),
}


def test_flags_variables_and_launch_config_are_the_contracts() -> None:
    found = {name: (row.flag, VARIABLES.get(name)) for name, row in TABLE.items()}

    assert found == CONTRACT
    launch_keys = {row.launch_key for row in TABLE.values() if row.launch_key}
    assert launch_keys == {"cohorts", "cohort_soak_seconds", "skip_gates"}


def given_by(source: str, name: str, text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Variables and flags that give one setting by its flag or by its variable.

    A control URL or a token is never alone: its other half comes along.
    """
    flag, variable = CONTRACT[name]
    half = {"control_base_url": TOKEN_VARIABLE}.get(name, "OA_STAGING_CONTROL_BASE_URL")
    other = {half: "http://host"} if name == "control_base_url" or "auth" in name else {}
    if name == "limits":
        other = {**LIVE, "OA_RUNTIME_METRICS_URL": "http://host/metrics"}
    if source == "flag":
        assert flag
        return other, {name: text}
    assert variable
    return {**other, variable: text}, {}


def resolved(settings: Settings, name: str) -> Any:
    """A setting's value, wherever it is kept."""
    holders = (settings.endpoints, settings.values, settings.plan)
    return next(getattr(holder, name) for holder in holders if hasattr(holder, name))


FOLDER = str(Path(__file__).parent)
URLS = ("control_base_url", "runtime_metrics_url", "control_status_url", "ui_url")
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
    ("require_probes", "false", False),
    ("watch_seconds", "1", 1),
    ("watch_seconds", "30", 30),
    ("stop_grace_seconds", "0", 0),
    ("stop_grace_seconds", "600", 600),
    ("limits", "+mirror.failed_total<=0, delivery.max_replay_lag<=500", None),
    ("signing_key", __file__, Path(__file__)),
    ("gate_groups", "spacetime-chaos", (("spacetime-chaos",),)),
    (
        "gate_groups",
        "spacetime-chaos , sync-security;spacetime-replay-resume,spacetime-provision-staging",
        (
            ("spacetime-chaos", "sync-security"),
            ("spacetime-replay-resume", "spacetime-provision-staging"),
        ),
    ),
    *(
        ("evidence_url", text, None)
        for text in ("s3://bucket/a/b", "gs://bucket", "az://container/x", "file:///shared/a")
    ),
    ("cron", "30 7 * * 2", None),
    ("cron", "@daily", None),
    ("timezone", "Europe/Berlin", None),
]
"""Name, text, and the value where it is not the text itself."""

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
            "javascript:alert(1)", "http://h\x00", "https://host/#/", "http://h#", "http://h/?q=1#x",
        )
    ),
    *(("repo_root", text) for text in ("/no/such/folder", __file__, "a\0b")),
    *(("require_probes", text) for text in ("True", "1", "yes", " true")),
    *(("watch_seconds", text) for text in ("0", "31", "-1", "1.5", "015")),
    *(("stop_grace_seconds", text) for text in ("601", "-1", "2s")),
    *(("limits", text) for text in (" ", "a<=1\n", "\x00")),
    ("signing_key", "a\0b"),
    *((name, text) for name in ("ca_bundle", "client_cert") for text in (__file__, FOLDER, "/no")),
    *(
        ("gate_groups", text)
        for text in (
            "chaos", "sync-security,", ";sync-security", "sync-security;", " ", "all",
            "sync-security,sync-security", "sync-security;spacetime-chaos,sync-security",
            "spacetime-chaos sync-security",
        )
    ),
    *(
        ("evidence_url", text)
        for text in (
            "s3://", "s3:///a", "gs:bucket", "http://host", "file://host/a", "file:relative", "/a",
            "s3://b/ c", "S3",
        )
    ),
    *(("cron", text) for text in ("at dawn", "* * * *", "* * * * * *", "0 6 * * 1\n", "@")),
    *(("timezone", text) for text in ("Europe", "../UTC", "Mars/Base", "a\0b", "/etc/passwd")),
]  # fmt: skip


def by_flag_and_variable(cases: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Each case once for every way in which its setting can be given."""
    return [
        (source, *case)
        for case in cases
        for source, given in zip(("flag", "variable"), CONTRACT[case[0]], strict=True)
        if given
    ]


@pytest.mark.parametrize(("source", "name", "text", "value"), by_flag_and_variable(ACCEPTED))
def test_what_is_accepted_by_flag_and_by_variable(
    source: str, name: str, text: str, value: object
) -> None:
    variables, flags = given_by(source, name, text)

    expected = text if value is None else value
    assert resolved(resolve(STAGING, variables, flags), name) == expected


@pytest.mark.parametrize(("source", "name", "text"), by_flag_and_variable(REFUSED))
def test_what_is_refused_by_flag_and_by_variable(source: str, name: str, text: str) -> None:
    variables, flags = given_by(source, name, text)

    with pytest.raises(SettingError) as refused:
        resolve(STAGING, variables, flags)

    message = str(refused.value)
    given = CONTRACT[name][0 if source == "flag" else 1]
    assert message.startswith(f"{given} is ")
    assert message.endswith(f"; accepted: {TABLE[name].kind.words}")
    assert len(message.splitlines()) == 1
    if not name.endswith("_url"):
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
    assert resolve(STAGING, {}, {"output_dir": "some/where"}).values.output_dir == Path(
        "some/where"
    )
    assert resolve(STAGING, {}).values.output_dir is None


def test_a_url_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(SettingError) as refused:
        TABLE["control_base_url"].read("--control-base-url", "https://user:p4ss@host:port")

    assert "p4ss" not in str(refused.value)


@pytest.mark.parametrize(
    ("flag", "variable", "read"),
    [("flag", "variable", "flag"), (None, "variable", "variable"), (None, "", None)],
)
def test_a_token_by_flag_or_variable(flag: str | None, variable: str, read: str | None) -> None:
    base = BASE if read else {}

    settings = resolve(STAGING, {**base, TOKEN_VARIABLE: variable}, {"auth_token": flag})

    assert settings.token == (None if read is None else FixedToken(read))


def test_a_token_file_is_kept_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")

    token = resolve(STAGING, {**BASE, FILE_VARIABLE: str(file)}).token

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
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_a_token_file_that_is_a_folder_is_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read: Is a directory"):
        resolve(STAGING, {"OA_STAGING_CONTROL_AUTH_TOKEN_FILE": str(tmp_path)})


def test_a_token_file_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("one")
    monkeypatch.chdir(tmp_path)
    token = resolve(STAGING, {**BASE, FILE_VARIABLE: "token"}).token

    monkeypatch.chdir(os.sep)

    assert token
    assert token.read() == "one"


def test_a_token_is_not_shown_by_whatever_prints_the_settings() -> None:
    notify = {"OA_STAGING_CANARY_NOTIFY_URL": "https://u:s3cret@host"}
    settings = resolve(STAGING, {**BASE, **notify, TOKEN_VARIABLE: "s3cret"})

    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)


def test_two_tokens_in_the_environment_are_one_too_many(tmp_path: Path) -> None:
    variables = {**BASE, TOKEN_VARIABLE: "one", FILE_VARIABLE: str(tmp_path)}

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
    assert declared(STAGING, variables).soak_seconds == int(variable or 900)


REFUSABLE = [
    name for name, row in CONTRACT.items() if all(row) and name not in ("apply_command", "limits")
]


@pytest.mark.parametrize("name", REFUSABLE)
def test_a_flag_is_read_instead_of_its_variable(name: str) -> None:
    """Even where the variable holds what could not be accepted."""
    flag_value = {"auth_token": "good", "repo_root": FOLDER, "cohorts": "5"}
    good = flag_value.get(name, "http://host" if name in URLS else "1")
    good = "true" if name == "require_probes" else good
    variables = {**LIVE, str(CONTRACT[name][1]): "no good\n"}

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


def test_probes_are_live_with_base_url_and_token_and_skipped_with_neither(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token")

    assert resolve(STAGING, LIVE).plan.probes_are_live
    assert resolve(STAGING, {**BASE, FILE_VARIABLE: str(file)}).plan.probes_are_live
    assert resolve(STAGING, {}).plan.missing_for_probe == ("control_base_url", "auth_token")


@pytest.mark.parametrize(
    ("variables", "flags", "words"),
    [
        (BASE, {}, f"{TOKEN_VARIABLE} .or {FILE_VARIABLE}. is not set, but {BASE_VARIABLE} is"),
        ({**BASE, TOKEN_VARIABLE: ""}, {}, f"{TOKEN_VARIABLE} .* is not set"),
        ({}, {"control_base_url": "http://host"}, "is not set, but --control-base-url is"),
        ({TOKEN_VARIABLE: "t"}, {}, f"{BASE_VARIABLE} is not set, but {TOKEN_VARIABLE} is"),
        ({}, {"auth_token": "t"}, f"{BASE_VARIABLE} is not set, but --auth-token is"),
    ],
)
def test_half_a_probe_configuration_is_bad_input_that_names_the_other_half(
    variables: dict[str, str], flags: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        resolve(STAGING, variables, flags)
    with pytest.raises(SettingError, match=words):
        resolve(STAGING, variables, flags, LaunchConfig(skip_gates=True))


def test_probes_that_are_required_need_base_url_and_token() -> None:
    required = {"OA_STAGING_CANARY_REQUIRE_PROBES": "true"}

    assert resolve(STAGING, {**LIVE, **required}).plan.probes_are_live
    assert not resolve(STAGING, {"OA_STAGING_CANARY_REQUIRE_PROBES": "false"}).values.require_probes
    for variables, flags, source in (
        (required, {}, "OA_STAGING_CANARY_REQUIRE_PROBES"),
        ({}, {"require_probes": "true"}, "--require-probes"),
    ):
        with pytest.raises(SettingError, match=f"{source} is true, .* together with OA_STAGING_C"):
            resolve(STAGING, variables, flags)


@pytest.mark.parametrize("cohorts", [(), (7,), (10, 5), (5, 5), (0,), (101,)])
def test_launched_cohorts_that_are_not_accepted(cohorts: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match=r"launch config resources\.rollout\.config\.cohorts"):
        resolve(STAGING, {}, launch=LaunchConfig(cohorts=cohorts))


def test_an_empty_variable_is_unset_and_an_empty_flag_is_an_error() -> None:
    empty = dict.fromkeys(VARIABLES.values(), "")

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
    assert plan.repo_root == str(Path.cwd())
    assert plan.gate_timeout_seconds == 3600
    assert plan.http_timeout_seconds == 30
    assert declared(STAGING, {}).cohorts == plan.cohorts


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
    variables = {} if flags or name not in VARIABLES else {VARIABLES[name]: text}

    assert_plan_or_one_line(lambda: resolve(STAGING, variables, flags))


@given(st.lists(st.integers()), st.integers())
def test_any_launch_config_is_a_plan_or_one_clear_line(cohorts: list[int], soak: int) -> None:
    launch = LaunchConfig(tuple(cohorts), soak)

    assert_plan_or_one_line(lambda: resolve(STAGING, {}, launch=launch))


APPLYING = {**LIVE, "OA_STAGING_CANARY_APPLY_COMMAND": "apply"}


def changes(plan: Plan) -> tuple[str | None, str | None, str | None, int | None]:
    """How a rollout makes its cohorts live."""
    return (plan.apply_command, plan.rollback_command, plan.on_block, plan.verify_timeout_seconds)


def test_without_an_apply_command_nothing_is_changed() -> None:
    others = {
        "OA_STAGING_CANARY_ROLLBACK_COMMAND": "back",
        "OA_STAGING_CANARY_ON_BLOCK": "hold",
        "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": "5",
    }

    assert not resolve(STAGING, {**LIVE, **others}).plan.changes_staging
    assert declared(STAGING, {**LIVE, **others}).apply_command is None


def test_the_apply_command_rolls_back_too_unless_another_does() -> None:
    assert declared(STAGING, APPLYING).apply_command == "apply"
    for settings in (
        resolve(STAGING, APPLYING),
        resolve(STAGING, LIVE, {"apply_command": "apply"}),
    ):
        assert changes(settings.plan) == ("apply", "apply", "rollback", 300)
    more = {
        "OA_STAGING_CANARY_ROLLBACK_COMMAND": "back",
        "OA_STAGING_CANARY_ON_BLOCK": "hold",
        "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": "5",
    }
    plan = resolve(STAGING, {**APPLYING, **more}).plan
    assert changes(plan) == ("apply", "back", "hold", 5)


def test_a_dry_run_changes_nothing() -> None:
    launch = LaunchConfig(skip_gates=True)

    assert not resolve(STAGING, APPLYING, launch=launch).plan.changes_staging


def test_what_cannot_be_verified_is_not_applied() -> None:
    with pytest.raises(SettingError, match="what cannot be verified is not applied"):
        resolve(STAGING, {}, {"apply_command": "apply"})


@pytest.mark.parametrize("name", ["APPLY", "ROLLBACK"])
def test_a_command_that_holds_the_token_is_refused_and_never_shown(name: str) -> None:
    variable = f"OA_STAGING_CANARY_{name}_COMMAND"
    variables = {**APPLYING, variable: "curl -H 'Bearer secret-token' x"}

    with pytest.raises(SettingError, match=f"{variable} is a command that holds the") as caught:
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
    variable = VARIABLES[name]

    with pytest.raises(SettingError, match=f"{variable} is .*; accepted: "):
        resolve(STAGING, {**LIVE, variable: text})


# -- more rules -------------------------------------------------------------------------------


def test_certificates_are_looked_at_before_they_are_needed(tmp_path: Path) -> None:
    """Both in one PEM file, a certificate alone, and a key that would ask for its password."""
    both, alone, locked = (tmp_path / name for name in ("both.pem", "alone.pem", "locked.pem"))
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    more = ["-subj", "/CN=test", "-out", str(alone), "-keyout", str(both)]
    subprocess.run([*make, *more, "-nodes"], check=True, capture_output=True)
    key = ["openssl", "ec", "-in", str(both), "-aes128", "-passout", "pass:word", "-out"]
    subprocess.run([*key, str(locked)], check=True, capture_output=True)
    for file in (both, locked):
        file.write_bytes(file.read_bytes() + alone.read_bytes())

    trusting = resolve(STAGING, {"OA_STAGING_CANARY_CA_BUNDLE": str(alone)}).values
    showing = resolve(STAGING, {"OA_STAGING_CANARY_CLIENT_CERT": str(both)}).values

    assert (trusting.ca_bundle, showing.client_cert) == (alone, both)
    for file in (alone, locked):
        with pytest.raises(SettingError, match="a certificate and its key, without a password"):
            resolve(STAGING, {"OA_STAGING_CANARY_CLIENT_CERT": str(file)})


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "slack:/token",
        "https://",
        "json://host/\n",
        "https://user:s3cret/Part@host/x",
        "HTTP://user:s3cret[Part@host/x",
        "https://:s3cret@/x",
        "https://user:s3cret@host:0/x",
    ],
)
def test_a_receiver_that_is_no_url_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(SettingError, match=r"NOTIFY_URL is not usable \(value not") as refused:
        declared(STAGING, {"OA_STAGING_CANARY_NOTIFY_URL": text})

    assert text not in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["https://user:s3cret%2FPart@host:8443/x?key=1", "http://[::1]/x", "slack://a/b/c/#channel"],
)
def test_a_receiver_is_a_webhook_or_what_apprise_knows(text: str) -> None:
    url = declared(STAGING, {"OA_STAGING_CANARY_NOTIFY_URL": text}).notify_url

    assert url
    assert url.get_secret_value() == text


def test_gate_groups_that_are_refused_name_the_gates() -> None:
    with pytest.raises(SettingError, match=r"spacetime-provision-staging, .*, sync-security$"):
        declared(STAGING, {"OA_STAGING_CANARY_GATE_GROUPS": "sync"})


def test_only_what_shapes_the_definitions_keeps_them_from_loading() -> None:
    variables = {"OA_STAGING_REPO_ROOT": "/gone", "OA_STAGING_CANARY_COHORTS": "5"}

    assert declared(STAGING, variables).cohorts == (5,)


def test_restoring_staging_looks_at_no_setting_that_it_has_no_use_for() -> None:
    gone = {"OA_STAGING_CANARY_SIGNING_KEY": "/gone", "OA_STAGING_CANARY_CRON": "never"}

    assert resolve(STAGING, {**APPLYING, **gone}, names=RESTORING).plan.changes_staging
    with pytest.raises(SettingError, match="CRON is 'never'"):
        resolve(STAGING, {**APPLYING, **gone})


# -- environments, and the file that names them -----------------------------------------------

EU = replace(STAGING, name="staging-eu", default_cohorts=(1,), default_soak_seconds=7)


def from_file(**values: object) -> Environment:
    return replace(EU, files=(FromFile("envs.toml: environments.staging-eu.", values),))


def test_another_environment_has_variables_and_defaults_of_its_own() -> None:
    variables = variables_of(EU)
    plan = resolve(EU, {"OA_STAGING_EU_CANARY_GATE_TIMEOUT_SECONDS": "5"}).plan

    assert variables["runtime_metrics_url"] == "OA_STAGING_EU_RUNTIME_METRICS_URL"
    assert variables["evidence_url"] == "OA_CANARY_EVIDENCE_URL"
    assert (plan.cohorts, plan.soak_seconds, plan.gate_timeout_seconds) == ((1,), 7, 5)


@pytest.mark.parametrize(
    ("launch", "flag", "variable", "soak"),
    [(4, "3", "2", 4), (None, "3", "2", 3), (None, None, "2", 2), (None, None, "", 1)],
)
def test_a_file_gives_way_to_launch_flag_and_variable_and_wins_over_the_default(
    launch: int | None, flag: str | None, variable: str, soak: int
) -> None:
    variables = {"OA_STAGING_EU_CANARY_COHORT_SOAK_SECONDS": variable}
    launched = LaunchConfig(soak_seconds=launch)

    settings = resolve(from_file(soak_seconds=1), variables, {"soak_seconds": flag}, launched)

    assert settings.plan.soak_seconds == soak


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ({"cohorts": [5, 10]}, (5, 10)),
        ({"cohorts": "5,10"}, (5, 10)),
        ({"require_probes": False}, False),
        ({"limits": ["+a<=0", "b<=5"], "soak_seconds": 60}, "+a<=0, b<=5"),
        ({"gate_groups": ["spacetime-chaos", "sync-security"]}, (
            ("spacetime-chaos", "sync-security"),
        )),
        ({"gate_groups": ["spacetime-chaos,sync-security", "spacetime-replay-resume"]}, (
            ("spacetime-chaos", "sync-security"), ("spacetime-replay-resume",),
        )),
    ],
)  # fmt: skip
def test_a_file_may_say_a_value_in_its_own_type(values: Mapping[str, object], read: object) -> None:
    name = next(iter(values))
    variables = {
        "OA_STAGING_EU_CONTROL_BASE_URL": "http://host",
        "OA_STAGING_EU_CONTROL_AUTH_TOKEN": "t",
    }
    variables["OA_STAGING_EU_RUNTIME_METRICS_URL"] = "http://host/metrics"
    assert getattr(resolve(from_file(**values), variables).values, name) == read


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"soak_seconds": -1}, r"\.soak_seconds is '-1'; accepted: a whole number of seconds"),
        ({"soak_seconds": 1.5}, r"\.soak_seconds is of another type; accepted: a whole number"),
        ({"apply_command": {"run": "x"}}, r"\.apply_command is of another type; accepted: a sh"),
        ({"cohorts": []}, r"\.cohorts is empty; accepted: whole numbers"),
        ({"ui_url": ""}, r"\.ui_url is empty; accepted: an http"),
        ({"soak_second": 1}, r"\.soak_second is not a setting; accepted: soak_seconds, for one"),
        ({"auth_token": "a", "auth_token_file": "b"}, r"\.auth_token and .*_file is both set"),
    ],
)
def test_a_file_s_value_that_is_not_accepted_is_named_by_file_and_key(
    values: Mapping[str, object], words: str
) -> None:
    with pytest.raises(SettingError, match=f"envs.toml: environments.staging-eu{words}"):
        resolve(from_file(**values), {})


def test_a_token_in_either_form_hides_one_from_a_lower_source(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file")
    file = from_file(auth_token_file=str(tmp_path / "token"), control_base_url="http://host")
    variable = {"OA_STAGING_EU_CONTROL_AUTH_TOKEN": "variable"}

    assert resolve(file, {}).token == TokenFile(tmp_path / "token")
    assert resolve(file, variable).token == FixedToken("variable")
    assert resolve(file, variable, {"auth_token": "flag"}).token == FixedToken("flag")

    by_path = {"OA_STAGING_EU_CONTROL_AUTH_TOKEN_FILE": str(tmp_path / "token")}
    file = from_file(control_base_url="http://host", auth_token="token")  # noqa: S106 - not one
    assert resolve(file, by_path).token == TokenFile(tmp_path / "token")


def test_variables_that_no_setting_has_are_named_with_the_nearest_one_and_not_their_values() -> (
    None
):
    known = dict.fromkeys(VARIABLES.values(), "x")
    foreign = {"OA_SPACETIME_STAGING_HOST": "x", "OA_RUNTIME_TYPO": "x", "OA_STAGING_EU_X": ""}
    given = {"OA_STAGING_CANARY_ENV_FILE": "x"}
    wrong = {"OA_STAGING_CONTROL_BASE_URI": "s3cret", "OA_STAGING_CANARY_COHORT": "5"}

    assert unknown_variables(STAGING, {**known, **foreign, **given, **wrong}) == [
        "OA_STAGING_CANARY_COHORT is not a setting; the nearest is OA_STAGING_CANARY_COHORTS",
        "OA_STAGING_CONTROL_BASE_URI is not a setting; the nearest is OA_STAGING_CONTROL_BASE_URL",
    ]


def test_another_environment_s_variables_are_known_where_it_is() -> None:
    variables = {"OA_STAGING_EU_CANARY_COHORTS": "5"}

    assert unknown_variables(STAGING, variables)
    assert not unknown_variables(STAGING, variables, EU)
