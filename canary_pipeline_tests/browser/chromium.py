"""The browser of these tests: Debian's Chromium, driven by Playwright."""

import importlib.util
import os
import shutil

import pytest

PROGRAM = "chromium"

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def require_browser() -> None:
    """Leave a module of browser tests out where there is no browser, but never in CI.

    The module is left out as a whole, because without Playwright it cannot even be imported.
    """
    missing = _missing()
    if missing is None:
        return
    reason = f"the tests in the Dagster UI were left out: {missing}"
    if os.environ.get("CI") or os.environ.get("SCREENSHOTS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def _missing() -> str | None:
    if shutil.which(PROGRAM) is None:
        return f"no {PROGRAM} on the PATH (apt-get install {PROGRAM})"
    if importlib.util.find_spec("playwright") is None:
        return "no playwright in the virtual environment (pip install playwright)"
    return None
