"""What becomes of the browser tests on a machine without a browser."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).parent / "test_dagster_ui.py"


def collected_without_browser(
    tmp_path: Path, **variables: str
) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "SCREENSHOTS")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(MODULE)],
        cwd=MODULE.parent.parent.parent,
        env={**kept, "PATH": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
def test_without_chromium_the_tests_are_left_out_and_say_how_to_get_it(tmp_path: Path) -> None:
    result = collected_without_browser(tmp_path)

    assert "1 skipped" in result.stdout
    assert "the tests in the Dagster UI were left out" in result.stdout
    assert "apt-get install chromium" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["CI", "SCREENSHOTS"])
def test_where_the_tests_are_wanted_a_missing_chromium_fails(tmp_path: Path, variable: str) -> None:
    result = collected_without_browser(tmp_path, **{variable: "true"})

    assert result.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "apt-get install chromium" in result.stdout
