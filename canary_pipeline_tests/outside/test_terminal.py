"""Whatever happens to stdout and stderr: the work is done, and the exit code is the work's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import subprocess, sys
from pathlib import Path
from canary_pipeline.outside.terminal import protect_output

protect_output()
with Path("result").open("w") as result:
    for number in range(6_000):
        print("é → 🐤", number)
    print("é → 🐤", file=sys.stderr)
    import click
    from rich.console import Console
    click.echo("é → 🐤")
    Console().print("é → 🐤")
    sys.stdout.buffer.write(b"bytes\\n")
    subprocess.run(["sh", "-c", "echo a child; echo a child >&2"], check=False)
    result.write("worked")
print("last words")
raise SystemExit(7)
"""


def work(shell: str, folder: Path, **more: str) -> "subprocess.CompletedProcess[bytes]":
    """Run the work as a part of this shell command, in which `$WORK` stands for it."""
    (folder / "work.py").write_text(WORK)
    command = f"WORK() {{ {sys.executable} work.py; echo $? > code; }}; {shell}"
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, **more}
    return subprocess.run(
        ["/bin/bash", "-c", command], cwd=folder, env=environment, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    "shell",
    [
        "WORK | head -c0",
        "WORK 2>&1 | head -n1",
        "WORK > /dev/full",
        "WORK 2> /dev/full",
        "WORK >&-",
        "WORK 2>&-",
        "WORK <&- >&- 2>&-",
        "WORK | (trap '' INT; exec <&-; sleep 0.1)",
    ],
)
def test_output_that_fails_never_reaches_the_work(shell: str, tmp_path: Path) -> None:
    said = work(shell, tmp_path)

    assert (tmp_path / "result").read_text() == "worked"
    assert (tmp_path / "code").read_text() == "7\n"
    assert b"Error" not in said.stderr


def test_output_that_works_is_whole(tmp_path: Path) -> None:
    said = work("WORK", tmp_path, PYTHONUTF8="1")

    lines = said.stdout.decode().splitlines()
    assert lines[:6_000] == [f"é → 🐤 {number}" for number in range(6_000)]
    assert lines[-1] == "last words"
    assert said.stderr.decode() == "é → 🐤\na child\n"


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
)
def test_what_cannot_be_shown_is_escaped(locale: dict[str, str], tmp_path: Path) -> None:
    said = work("WORK", tmp_path, **locale)

    assert (tmp_path / "code").read_text() == "7\n"
    assert said.stdout.startswith(rb"\xe9 \u2192 \U0001f424 0")


def test_a_reader_that_is_slow_hears_everything_though_the_pipe_does_not_block(
    tmp_path: Path,
) -> None:
    unblock = "import os; os.set_blocking(1, False)"
    said = work(f"({sys.executable} -c '{unblock}'; WORK) | (sleep 0.5; cat)", tmp_path)

    assert said.stdout.endswith(b"last words\n")
    assert b"5999" in said.stdout


NO_FILE_LEFT = """
import os, resource
from contextlib import suppress
from canary_pipeline.outside.terminal import protect_output

reader, writer = os.pipe()
os.dup2(writer, 1)
os.close(reader)
protect_output()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with suppress(OSError):
    while True:
        os.dup(0)
print("nobody reads this")
raise SystemExit(7)
"""


def test_who_has_no_file_left_to_open_goes_on_without_its_reader(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", NO_FILE_LEFT],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert (said.returncode, said.stderr) == (7, b"")
