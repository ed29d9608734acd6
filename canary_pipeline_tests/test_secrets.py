"""A recognisable token and a password through every path: no byte of them is written anywhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import (
    TOKEN,
    Checkout,
    Commands,
    Result,
    await_true,
    files_with,
)
from canary_pipeline_tests.fake_staging import FakeStaging, answer, reset_midway

PASSWORD = "passw0rd-in-a-url"  # noqa: S105 - what tests search for


def allowed(commands: Commands, _checkout: Checkout, _staging: FakeStaging) -> Result:
    return commands.rollout("--cohorts", "5")


def gate_prints_its_environment(
    commands: Commands, checkout: Checkout, _staging: FakeStaging
) -> Result:
    checkout.gate("spacetime-chaos", "env; exit 1")
    return commands.rollout("--cohorts", "5")


def staging_repeats_what_it_gets(
    commands: Commands, _checkout: Checkout, staging: FakeStaging
) -> Result:
    echo = {"data": {"driver": TOKEN, "reason": f"Bearer {TOKEN}"}, TOKEN: TOKEN}
    staging.probes[5] = answer(500, echo, f"text/{TOKEN}")
    staging.snapshots["/status"] = answer(200, echo)
    return commands.rollout("--cohorts", "5")


def connection_breaks(commands: Commands, _checkout: Checkout, staging: FakeStaging) -> Result:
    staging.probes[5] = reset_midway
    return commands.rollout("--cohorts", "5")


def nobody_answers(commands: Commands, _checkout: Checkout, _staging: FakeStaging) -> Result:
    url = f"http://somebody:{PASSWORD}@127.0.0.1:9/?key={PASSWORD}"
    return commands.rollout(
        "--cohorts", "5", "--control-base-url", url, "--control-status-url", f"{url}&more"
    )


def step_crashes(commands: Commands, checkout: Checkout, _staging: FakeStaging) -> Result:
    folder = commands.folder / "evidence"
    checkout.gate("sync-security", f"mkdir '{folder}/cohort-results.jsonl'")
    return commands.rollout("--cohorts", "5", "--output-dir", str(folder))


def dagster_rollout(commands: Commands, checkout: Checkout, staging: FakeStaging) -> Result:
    checkout.gate("spacetime-chaos", "env")
    staging.probes[5] = answer(500, {"token": TOKEN})
    return commands.dagster_rollout("--cohorts", "5")


def rollout_is_stopped(commands: Commands, checkout: Checkout, _staging: FakeStaging) -> Result:
    checkout.gate("spacetime-chaos", "env; sleep 300")
    process = commands.start_rollout("--cohorts", "5")
    await_true(lambda: checkout.runs_of("spacetime-chaos"))
    process.terminate()
    return commands.finish(process)


def job_execute(commands: Commands, _checkout: Checkout, staging: FakeStaging) -> Result:
    staging.probes[5] = answer(500, {"token": TOKEN})
    return commands.job({"resources": {"rollout": {"config": {"cohorts": [5]}}}})


def bad_input(commands: Commands, _checkout: Checkout, _staging: FakeStaging) -> Result:
    url = f"http://somebody:{PASSWORD}@host:port/"
    return commands.rollout("--auth-token", f"{TOKEN} {TOKEN}", "--control-base-url", url)


PATHS: list[Callable[[Commands, Checkout, FakeStaging], Result]] = [
    allowed,
    gate_prints_its_environment,
    staging_repeats_what_it_gets,
    connection_breaks,
    nobody_answers,
    step_crashes,
    rollout_is_stopped,
    job_execute,
    dagster_rollout,
    bad_input,
]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.__name__,
            marks=[pytest.mark.slow] if path in (job_execute, dagster_rollout) else [],
        )
        for path in PATHS
    ],
)
def test_no_secret_is_written(
    path: Callable[[Commands, Checkout, FakeStaging], Result],
    commands: Commands,
    checkout: Checkout,
    staging: FakeStaging,
    tmp_path: Path,
) -> None:
    commands.environment["OA_RUNTIME_METRICS_URL"] = (
        f"{staging.url.replace('://', f'://somebody:{PASSWORD}@')}/metrics?key={PASSWORD}"
    )

    result = path(commands, checkout, staging)

    for secret in (TOKEN, PASSWORD):
        assert secret not in result.out
        assert secret not in result.err
    for secret in (TOKEN, PASSWORD):
        assert files_with(secret, commands.folder, tmp_path / "dagster") == []
    if path is gate_prints_its_environment:
        assert files_with("TOKEN=[redacted]", *commands.folders)
