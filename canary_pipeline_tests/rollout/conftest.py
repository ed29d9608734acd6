"""Parts for tests of the core: a clock that tests move, settings, and a rollout's folder."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.outside.endpoints import Endpoints
from canary_pipeline.outside.token import FixedToken
from canary_pipeline.planning import Settings, resolve
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.builders import ENVIRONMENT
from canary_pipeline_tests.conftest import TOKEN
from canary_pipeline_tests.fake_staging import FakeStaging


@dataclass
class FakeClock:
    """Time that only passes when somebody sleeps, or a test says so."""

    wall: datetime = datetime(2026, 2, 25, 8, 0, tzinfo=UTC)
    seconds: float = 0.0
    slept: list[float] = field(default_factory=list)
    while_asleep: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds
        self.while_asleep()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


VARIABLES = {
    "OA_STAGING_CONTROL_BASE_URL": "http://127.0.0.1:9",
    "OA_STAGING_CONTROL_AUTH_TOKEN": TOKEN,
    "OA_STAGING_CANARY_GATE_TIMEOUT_SECONDS": "30",
    "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": "2",
    "OA_STAGING_CANARY_VERIFY_TIMEOUT_SECONDS": "10",
}


def settings_with(repo_root: Path, **more: str) -> Settings:
    """The settings of a rollout of `ENVIRONMENT`; each of `more` follows `OA_STAGING_`."""
    given = {f"OA_STAGING_{name}": value for name, value in more.items()}
    return resolve(ENVIRONMENT, {**VARIABLES, "OA_STAGING_REPO_ROOT": str(repo_root), **given})


def new_rollout(settings: Settings, folder: Path, clock: FakeClock) -> Evidence:
    """A rollout that was opened in this folder."""
    return attempts.open_rollout(settings, lambda _: folder, clock, named=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_with(tmp_path)


@pytest.fixture
def evidence(settings: Settings, tmp_path: Path, clock: FakeClock) -> Evidence:
    found = new_rollout(settings, tmp_path / "rollout", clock)
    attempts.join(found, "run-1", "a test", clock)
    return found


@pytest.fixture
def context(settings: Settings, evidence: Evidence, clock: FakeClock) -> Context:
    control = ControlService(settings.endpoints, settings.token, 2)
    return Context(settings.plan, evidence, control, 1, "run-1", clock=clock)


def asking(context: Context, staging: FakeStaging, *snapshots: str) -> Context:
    """The same where this staging is asked; paths name what snapshots read."""
    endpoints = Endpoints(staging.url, *(f"{staging.url}{path}" for path in snapshots))
    return replace(context, control=ControlService(endpoints, FixedToken(TOKEN), 5))


def planned(context: Context, **changes: Any) -> Context:
    """The same where the plan is another."""
    return replace(context, plan=context.plan.model_copy(update=changes))


def next_attempt(context: Context, number: int = 2) -> Context:
    """The same in a later attempt."""
    run_id = f"run-{number}"
    attempts.join(context.evidence, run_id, "a test", context.clock)
    return replace(context, attempt=number, run_id=run_id)


def commit(folder: Path) -> str:
    """Make another commit, without a change, in a checkout that is made where there is none."""

    def git(*arguments: str) -> str:
        words = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.check_output([*words, *arguments], text=True).strip()

    if not (folder / ".git").exists():
        folder.mkdir(exist_ok=True)
        git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "another")
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="session")
def one_staging() -> Iterator[FakeStaging]:
    with FakeStaging.serving(TOKEN) as fake:
        yield fake


@pytest.fixture
def staging(one_staging: FakeStaging) -> Iterator[FakeStaging]:
    """The one server, which remembers nothing of the test before: starting one takes longer."""
    one_staging.probes.clear()
    one_staging.snapshots.clear()
    one_staging.seen.clear()
    one_staging.released = threading.Event()
    yield one_staging
    one_staging.released.set()


def children_of(pid: int) -> set[int]:
    """The children of a process, dead or alive."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(child) for child in file.read_text().split()}
