"""Running a program as another user of the host."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def as_nobody(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user needs root and setpriv")
    another = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run(
        [*another, *command],
        check=False,
        capture_output=True,
        text=True,
        input="",
        env={**os.environ, **variables},
    )


def let_in(tmp_path: Path) -> None:
    """Let other users look into a test's folder, which pytest closes."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.resolve().is_relative_to(temporary) and folder.resolve() != temporary:
            folder.chmod(0o755)
