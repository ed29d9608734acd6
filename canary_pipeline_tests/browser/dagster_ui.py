"""The Dagster UI as the tests use it: where things are, and what is done with them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Locator, Page, WebSocket, expect

JOB = "/locations/canary_pipeline/jobs/staging_canary_rollout"
SCHEDULE = "/locations/canary_pipeline/schedules/staging_canary_rollout_schedule"
ASSET_GROUP = "/locations/canary_pipeline/asset-groups/staging_canary"

SHOWN_WITHIN = 30_000
RUN_ENDS_WITHIN = 120_000
"""Milliseconds; generous, since the machine may be busy with other tests."""

PICTURE_BYTES = 250_000

NOWHERE = (120, 500)
"""Where the mouse rests on a screenshot: between two groups of links, over nothing."""


@dataclass
class Seen:
    """What the tests of a module saw: to be searched for what no browser must know.

    Attributes:
        runs: A run for each status that one ended with, for tests that any such run will do for.
        pages: URLs and pages, as they were when a test had found on them what it looked for.
        frames: URLs and what came over web sockets, and with it every event of the runs looked
            at: the pages hold only the rows that were scrolled to.
    """

    runs: dict[str, str] = field(default_factory=dict)
    pages: list[tuple[str, str]] = field(default_factory=list)
    frames: list[tuple[str, str]] = field(default_factory=list)

    def listen(self, socket: WebSocket) -> None:
        """Keep what a web socket receives."""
        socket.on("framereceived", lambda frame: self.frames.append((socket.url, str(frame))))


@dataclass
class DagsterUI:
    """One browser page on the Dagster UI.

    Attributes:
        page: The page, for what only one test does.
        url: Where the UI is served.
        seen: Gets what the page showed.
        pictures: Folder of screenshots, or None where none are taken.
    """

    page: Page
    url: str
    seen: Seen
    pictures: Path | None

    def __post_init__(self) -> None:
        """Listen from the first page on."""
        self.page.on("websocket", self.seen.listen)

    def open(self, path: str) -> None:
        """Go to a page of the UI."""
        self.page.goto(f"{self.url}{path}")

    def skip_the_sign_up(self) -> None:
        """Pass the dialog that greets whoever opens a new Dagster instance first."""
        self.open("/runs")
        skip = self.button("Skip")
        skip.click(timeout=SHOWN_WITHIN)
        expect(skip).to_be_hidden()

    def launchpad(self) -> None:
        """Open the job's Launchpad, by the menu beside *Materialize all*."""
        self.open(JOB)
        whole = self.button("Materialize all")
        whole.locator("xpath=following::button[1]").click(timeout=SHOWN_WITHIN)
        self.page.get_by_role("menuitem", name="Open launchpad").click()
        self.sees(self._editor())
        self._config_is_accepted()

    def type_config(self, config: str) -> None:
        """Replace what the Launchpad's editor holds."""
        self._editor().click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(config)
        self._config_is_accepted()

    def _config_is_accepted(self) -> None:
        expect(self._launch_button()).to_be_enabled(timeout=SHOWN_WITHIN)
        self.sees(self.page.get_by_text("No errors"))

    def _editor(self) -> Locator:
        # The Launchpad of a browser remembers what was typed last; this is part of every config.
        return self._dialog().get_by_text("cohort_soak_seconds").first

    def _launch_button(self) -> Locator:
        return self._dialog().get_by_role("button", name="Materialize")

    def _dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def launch(self) -> str:
        """Launch as the Launchpad is; the run's page opens. Return the run id."""
        self._launch_button().click()
        expect(self.page).to_have_url(re.compile(r"/runs/[0-9a-f-]{36}"), timeout=SHOWN_WITHIN)
        self.see()
        return self.page.url.rsplit("/", 1)[1].partition("?")[0]

    def roll_out(self, config: str, status: str) -> str:
        """Launch with a config and wait for the end of the run; return its id."""
        self.launchpad()
        self.type_config(f"resources: {{rollout: {{config: {{{config}}}}}}}")
        run_id = self.launch()
        self.sees_status(status)
        self.seen.runs[status] = run_id
        return run_id

    def some_run(self, config: str, status: str) -> str:
        """The id of a run that ended like this, of this test or an earlier one."""
        return self.seen.runs.get(status) or self.roll_out(config, status)

    def sees_status(self, status: str) -> None:
        """Wait until a run's page says how the run ended."""
        self.sees(self.page.get_by_text(status, exact=True).first, RUN_ENDS_WITHIN)

    def steps(self) -> None:
        """Give the steps of a run's page the whole height; those that failed are listed, too."""
        self.button("expand_arrows").first.click()

    def list_succeeded(self) -> None:
        """List the steps that succeeded beside a run's timeline."""
        self.page.get_by_text(re.compile(r"^Succeeded \(\d+\)$")).click()

    def sees_step(self, name: str) -> None:
        """Find a step in the list beside a run's timeline."""
        # A bar of the timeline shortens its name; the list has it in full.
        self.sees(self.page.get_by_text(re.compile(rf"^(\w+(\.|__))?{name}$")).last)

    def tags_of_run(self) -> Locator:
        """Open a run's tags and config."""
        self.button("View tags and config").click()
        return self._dialog()

    def asset(self, name: str, tab: str = "Overview") -> None:
        """Open an asset's page on one of its tabs."""
        self.open(f"/assets/staging_canary/{name}")
        self.page.get_by_role("tab", name=tab).click(timeout=SHOWN_WITHIN)

    def button(self, name: str) -> Locator:
        """A button; its name includes that of its icon."""
        return self.page.get_by_role("button", name=name)

    def row(self, begins: str) -> Locator:
        """A row of a table, by what it begins with."""
        return self.page.get_by_role("row", name=re.compile(rf"^{begins}\b"))

    def sees(self, what: Locator, within: float = SHOWN_WITHIN) -> None:
        """Wait until something is visible, and keep the page."""
        expect(what).to_be_visible(timeout=within)
        self.see()

    def sees_all(self, texts: Sequence[str]) -> None:
        """Wait until every one of these texts is visible."""
        for text in texts:
            self.sees(self.page.get_by_text(text, exact=True).first)

    def see(self) -> None:
        """Keep the page as it is now."""
        self.seen.pages.append((self.page.url, self.page.content()))

    def picture(self, name: str) -> None:
        """Take a screenshot for the docs, where those are wanted."""
        if self.pictures is None:
            return
        self.page.mouse.move(*NOWHERE)
        self.page.wait_for_load_state("networkidle")  # icons come last
        png = self.page.screenshot(animations="disabled", caret="hide")
        assert len(png) < PICTURE_BYTES, f"{name}.png has {len(png)} bytes"
        (self.pictures / f"{name}.png").write_bytes(png)
