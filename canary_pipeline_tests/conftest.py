"""Real parts that whole-rollout tests are made of: a checkout, a staging, and the commands."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, settings

from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline.store.journal import VARIABLE as JOURNAL_VARIABLE
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.forked_core import Forks, forks

TOKEN = "token-that-must-stay-secret"  # noqa: S105 - what tests search for

GATES = {
    "spacetime-provision-staging": "provision",
    "spacetime-replay-resume": "spacetime-replay-resume",
    "spacetime-chaos": "spacetime-chaos",
    "sync-security": "sync-security",
}

PROGRAMS = Path(sys.executable).parent

settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

CORE = ("python", "-m", "canary_pipeline_tests.core_alone")
"""`canary-rollout` without Dagster: the same files and exit codes in a tenth of the time."""

DAGSTER_JOB = ("dagster", "job", "execute", "-m", "canary_pipeline", "-j", "staging_canary_rollout")


def pytest_configure() -> None:
    """Let signals end what the tests start, also where a shell began these in its background."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no worker is left with one in the end."""
    for item in items:
        if "in_process" in getattr(item, "fixturenames", ()):  # a whole run of Dagster's
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the host knows of rollouts, for each test its own."""
    monkeypatch.setenv(JOURNAL_VARIABLE, str(tmp_path / "journal"))
    return tmp_path / "journal"


def await_true(condition: Callable[[], Any], seconds: float = 120, every: float = 0.02) -> Any:
    """Wait until a condition holds, looking every so many seconds; return what it returned."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(every)
    return value


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test read or write what this host knows of its environments, or claim them."""
    monkeypatch.setenv("CANARY_PIPELINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CANARY_PIPELINE_CLAIM_DIR", str(tmp_path))


@dataclass
class Checkout:
    """A checkout whose gates do what a test says."""

    folder: Path

    def gate(self, name: str, script: str) -> None:
        """Let a gate run this bash script."""
        (self.folder / "behaviour" / GATES[name]).write_text(script)

    def runs_of(self, name: str) -> int:
        """How often a gate was started."""
        file = self.folder / "started" / GATES[name]
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return new_checkout(tmp_path / "check out")


def new_checkout(folder: Path) -> Checkout:
    """Make a checkout whose gates pass."""
    for name in ("behaviour", "started", "scripts/spacetime"):
        (folder / name).mkdir(parents=True)
    for script, lane in (
        ("scripts/local-ci.sh", '"$1"'),
        ("scripts/spacetime/provision-check.sh", "provision"),
    ):
        file = folder / script
        file.write_text(
            f"#!/usr/bin/env bash\nlane={lane}\n"
            'echo started >> "started/$lane"\n'
            '[ ! -f "behaviour/$lane" ] || source "behaviour/$lane"\n'
        )
        file.chmod(0o755)
    return Checkout(folder)


@pytest.fixture
def staging() -> Iterator[FakeStaging]:
    with FakeStaging.serving(TOKEN) as fake:
        yield fake


@dataclass
class Result:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclass
class Commands:
    """The project's commands in a world of their own: folder, home, claim, journal, environment."""

    folder: Path
    environment: dict[str, str]
    core: Forks
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(
        self,
        program: str,
        *arguments: str,
        more: Mapping[str, str] | None = None,
        output: IO[str] | None = None,
    ) -> "subprocess.Popen[str]":
        """Start a program of the project's virtual environment.

        What it prints is kept for `finish`, or goes to a file: a pipe that nobody reads would
        in time hold up a program that runs for long.
        """
        process = subprocess.Popen(
            [PROGRAMS / program, *arguments],
            cwd=self.folder,
            env={**self.environment, **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.PIPE,
            stderr=output or subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, program: str, *arguments: str, more: Mapping[str, str] | None = None) -> Result:
        """Run a program to its end; the core alone in a fork, which is quicker to start."""
        if (program, *arguments)[: len(CORE)] != CORE:
            return self.finish(self.start(program, *arguments, more=more))
        environment = {**self.environment, **(more or {})}
        ended = self.core.run(self.folder, environment, *arguments[len(CORE) - 1 :])
        return Result(ended.code, ended.out, ended.err)

    def finish(self, process: "subprocess.Popen[str]") -> Result:
        """Wait for a program's end."""
        out, err = process.communicate(timeout=240)
        return Result(process.returncode, out, err)

    def kill(self, process: "subprocess.Popen[str]") -> None:
        """Kill a program and whatever it started that did not leave its group."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def start_rollout(
        self, *arguments: str, more: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """Start `canary-rollout run` with the core alone."""
        return self.start(*CORE, "run", *arguments, more=more)

    def rollout(self, *arguments: str, more: Mapping[str, str] | None = None) -> Result:
        """Run `canary-rollout run` with the core alone."""
        return self.run(*CORE, "run", *arguments, more=more)

    def resume(
        self, rollout: Path | str, *arguments: str, more: Mapping[str, str] | None = None
    ) -> Result:
        """Run `canary-rollout resume` with the core alone."""
        return self.run(*CORE, "resume", str(rollout), *arguments, more=more)

    def rollback(self, folder: Path, *, more: Mapping[str, str] | None = None) -> Result:
        """Run `canary-rollout rollback`."""
        return self.run(*CORE, "rollback", str(folder), more=more)

    def status(self) -> Result:
        """Run `canary-rollout status`."""
        return self.run(*CORE, "status")

    def dagster_rollout(self, *arguments: str, more: Mapping[str, str] | None = None) -> Result:
        """Run `canary-rollout run` as people do, with Dagster."""
        return self.run("canary-rollout", "run", *arguments, more=more)

    def job(self, config: object = None, more: Mapping[str, str] | None = None) -> Result:
        """Run `dagster job execute`."""
        if config is None:
            return self.run(*DAGSTER_JOB, more=more)
        file = self.folder / "run.yaml"
        file.write_text(json.dumps(config))
        return self.run(*DAGSTER_JOB, "-c", str(file), more=more)

    @property
    def folders(self) -> list[Path]:
        """The folders of every rollout so far, oldest first."""
        return sorted((self.folder / "output/canary/spacetime").glob("staging-*"))


@pytest.fixture(scope="session")
def new_dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster instance without history, to copy: making one takes longer than a rollout."""
    home = tmp_path_factory.mktemp("dagster-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        use_home()
    return home


@pytest.fixture(scope="session")
def core() -> Iterator[Forks]:
    """Where commands of the core alone are forked from."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "HOME")}
    with forks({**kept, "PYTHONPATH": str(Path(__file__).parents[1])}) as forked:
        yield forked


@pytest.fixture
def commands(
    tmp_path: Path,
    checkout: Checkout,
    staging: FakeStaging,
    new_dagster_home: Path,
    core: Forks,
) -> Iterator[Commands]:
    """Commands that are configured for the test's own checkout and staging, without soaks."""
    shutil.copytree(new_dagster_home, tmp_path / "dagster")
    with new_commands(tmp_path, checkout, staging, core) as world:
        yield world


@contextmanager
def new_commands(
    world: Path, checkout: Checkout, staging: FakeStaging, core: Forks
) -> Iterator[Commands]:
    """Have commands in a world where all that they write is; what was started ends with it."""
    folder = world / "work"
    folder.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OA_", "DAGSTER_", "CANARY_", "LOCAL_STAGING_"))
    }
    found = Commands(
        folder,
        {
            **kept,
            "HOME": str(world / "home"),
            "DAGSTER_HOME": str(world / "dagster"),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "CANARY_PIPELINE_CLAIM_DIR": str(world),
            JOURNAL_VARIABLE: str(world / "journal"),
            "OA_STAGING_REPO_ROOT": str(checkout.folder),
            "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "0",
            "OA_STAGING_CONTROL_BASE_URL": staging.url,
            "OA_STAGING_CONTROL_AUTH_TOKEN": TOKEN,
            "OA_RUNTIME_METRICS_URL": f"{staging.url}/metrics",
            "OA_CONTROL_STATUS_URL": f"{staging.url}/status",
        },
        core,
    )
    try:
        yield found
    finally:
        for process in found.started:
            if process.poll() is None:
                found.kill(process)


@dataclass
class InProcess:
    """The job, executed in the test's own process: everything is real but the step processes."""

    commands: Commands
    patch: pytest.MonkeyPatch

    def job(self, config: Mapping[str, object] | None = None, **more: str) -> bool:
        """Execute the job with this `resources.rollout.config`; return whether its run is green."""
        for name, value in {**self.commands.environment, **more}.items():
            self.patch.setenv(name, value)
        self.patch.chdir(self.commands.folder)
        definitions = rollout_definitions(STAGING, os.environ)
        job = definitions.resolve_job_def("staging_canary_rollout")
        with dg.DagsterInstance.get() as instance:
            result = job.execute_in_process(
                run_config={"resources": {"rollout": {"config": dict(config or {})}}},
                instance=instance,
                raise_on_error=False,
            )
        return result.success


@pytest.fixture
def in_process(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    return InProcess(commands, monkeypatch)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a file of a rollout."""
    file = folder / name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def gate_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of `gate-results.jsonl`."""
    return rows(folder, "gate-results.jsonl")


def cohort_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of `cohort-results.jsonl`."""
    return rows(folder, "cohort-results.jsonl")


def statuses(folder: Path) -> list[tuple[int, str, str | None]]:
    """Percent, status and reason of every cohort row."""
    return [
        (row["cohort_percent"], row["status"], row.get("reason")) for row in cohort_rows(folder)
    ]


def under_way(folder: Path) -> list[dict[str, Any]]:
    """What the steps of a rollout that have begun and not ended are doing."""
    found = []
    for file in folder.glob("in-flight/*.json"):
        with suppress(FileNotFoundError):  # it has ended meanwhile
            found.append(json.loads(file.read_text()))
    return found


def soaks(folder: Path) -> bool:
    """Whether a cohort of a rollout soaks now."""
    return any(state["phase"] == "soak" for state in under_way(folder))


def decision(folder: Path) -> str:
    """The last line of `SUMMARY.md`."""
    return (folder / "SUMMARY.md").read_text().splitlines()[-1]


def files_with(text: str, *folders: Path) -> Sequence[Path]:
    """Every file below these folders that holds a text."""
    return [
        file
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and text.encode() in file.read_bytes()
    ]
