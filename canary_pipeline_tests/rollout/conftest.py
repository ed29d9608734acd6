"""Parts for tests of the core: a clock that tests move, plans, and a rollout's folder."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from canary_pipeline.model.plan import Endpoints, Environment, Gate, Plan
from canary_pipeline.outside.token import FixedToken, Redactor
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.store.folder import Evidence
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


ENVIRONMENT = Environment(
    name="staging",
    title="Staging Spacetime Canary Rollout Summary",
    gates=(Gate("one", "true"), Gate("two", "true")),
    default_cohorts=(5, 100),
    default_soak_seconds=900,
)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        environment=ENVIRONMENT,
        cohorts=(5, 100),
        soak_seconds=900,
        skip_gates=False,
        endpoints=Endpoints("http://127.0.0.1:9"),
        missing_for_probe=(),
        repo_root=tmp_path,
        gate_timeout_seconds=30,
        http_timeout_seconds=2,
    )


@pytest.fixture
def evidence(plan: Plan, tmp_path: Path, clock: FakeClock) -> Evidence:
    found = attempts.open_rollout(plan, tmp_path / "rollout", clock)
    attempts.join(found, "run-1", "a test", clock)
    return found


@pytest.fixture
def around(evidence: Evidence, clock: FakeClock) -> Surroundings:
    return Surroundings(
        evidence=evidence,
        attempt=1,
        run_id="run-1",
        redactor=Redactor(FixedToken("secret-token")),
        clock=clock,
    )


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
