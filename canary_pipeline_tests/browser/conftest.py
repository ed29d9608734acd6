"""A real `dagster dev` of this project with the stand-in as its staging, and a browser on it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from canary_pipeline.local_staging.stand_in import local_staging
from canary_pipeline_tests.browser.chromium import ARGUMENTS, PROGRAM
from canary_pipeline_tests.conftest import Commands
from canary_pipeline_tests.forked_core import Forks
from canary_pipeline_tests.test_dagster_dev import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from canary_pipeline_tests.browser.dagster_ui import DagsterUI, Seen

# What needs Playwright is imported by the fixtures: without it the tests are left out, and
# pytest must still be able to load this file.


@dataclass(frozen=True)
class Served:
    """The project in its UI.

    Attributes:
        url: Where the UI is served.
        token_file: Holds the token that must not be seen; renewed once a minute.
        signing_key: What the token was signed with.
    """

    url: str
    token_file: Path
    signing_key: str


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, new_dagster_home: Path, core: Forks) -> Iterator[Served]:
    fault = getattr(request.module, "FAULT", None)
    # Its paths are on the screenshots, so they are short and say nothing of who took them.
    with tempfile.TemporaryDirectory(prefix="canary-") as name:
        world = Path(name)
        shutil.copytree(new_dagster_home, world / "dagster")
        (world / "work").mkdir()
        with local_staging(world / "staging", fault=fault) as staging:
            commands = Commands(
                world / "work",
                {
                    **_kept_variables(),
                    **staging.environment,
                    "HOME": str(world / "home"),
                    "DAGSTER_HOME": str(world / "dagster"),
                    "CANARY_PIPELINE_CLAIM_DIR": str(world),
                    "OA_STAGING_CANARY_COHORT_SOAK_SECONDS": "2",
                },
                core,
            )
            try:
                with serving(commands) as dev:
                    yield Served(
                        dev.url,
                        Path(staging.environment["OA_STAGING_CONTROL_AUTH_TOKEN_FILE"]),
                        staging.environment["OA_SPACETIME_STAGING_JWT_SIGNING_KEY"],
                    )
            finally:
                _end(commands)


def _kept_variables() -> dict[str, str]:
    """This process's variables without those that configure a rollout."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OA_", "DAGSTER_", "CANARY_", "LOCAL_STAGING_"))
    }


def _end(commands: Commands) -> None:
    for process in commands.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# While Playwright runs, so does its event loop, in the main thread: no test of another module
# may meet it there.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(PROGRAM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pictures() -> Path | None:
    """The folder that screenshots are wanted in, if they are."""
    folder = os.environ.get("SCREENSHOTS")
    if not folder:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@pytest.fixture(scope="module")
def seen() -> "Seen":
    """What all tests of the module saw."""
    from canary_pipeline_tests.browser.dagster_ui import Seen  # noqa: PLC0415

    return Seen()


@pytest.fixture(scope="module")
def greeted(served: Served, browser: "Browser", seen: "Seen") -> Served:
    """The project in its UI, once the sign-up dialog was passed."""
    from canary_pipeline_tests.browser.dagster_ui import DagsterUI  # noqa: PLC0415

    page = browser.new_page()
    DagsterUI(page, served.url, seen, None).skip_the_sign_up()
    page.close()
    return served


@pytest.fixture
def ui(
    greeted: Served, browser: "Browser", seen: "Seen", pictures: Path | None
) -> "Iterator[DagsterUI]":
    """The UI in a browser that remembers nothing of other tests."""
    from canary_pipeline_tests.browser.dagster_ui import DagsterUI  # noqa: PLC0415

    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, locale="en-US", timezone_id="UTC"
    )
    yield DagsterUI(context.new_page(), greeted.url, seen, pictures)
    context.close()
