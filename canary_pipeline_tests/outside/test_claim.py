"""One rollout of an environment at a time, across processes, without anything to clean up."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from canary_pipeline.outside.claim import (
    FOLDER_LOCK,
    Claim,
    ClaimUnusableError,
    EnvironmentTakenError,
    claim_file,
    current_holder,
    holder_of,
    in_words,
    killed_holder,
    last_holder,
    lock_folder,
)
from canary_pipeline.outside.process_identity import this_process
from canary_pipeline_tests.odd_host import failing
from canary_pipeline_tests.outside.another_user import as_nobody, let_in

HOLD = (
    "import sys\n"
    "from canary_pipeline.outside.claim import Claim\n"
    "with Claim('staging', {'run': 'the-first'}):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture(autouse=True)
def own_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_PIPELINE_CLAIM_DIR", str(tmp_path))


def holder() -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_and_told_who_holds_it() -> None:
    process = holder()

    with pytest.raises(EnvironmentTakenError, match="run the-first"), Claim("staging", {}):
        pass

    process.communicate("")
    with Claim("staging", {}):
        pass


def test_a_killed_holder_leaves_nothing_to_clean_up() -> None:
    process = holder()
    process.kill()
    process.communicate()

    with Claim("staging", {"run": "the-second"}):
        assert last_holder("staging")["run"] == "the-second"
    assert last_holder("staging") == {}


def test_whoever_holds_an_environment_may_claim_it_again() -> None:
    with Claim("staging", {"run": "one"}):
        with Claim("staging", {"run": "one, with more to say"}):
            pass
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run([sys.executable, "-c", HOLD], check=True, capture_output=True, input=b"")


def test_environments_do_not_stand_in_each_others_way() -> None:
    with Claim("staging", {}), Claim("production", {}):
        pass


def test_everybody_on_the_host_may_use_the_lock_file() -> None:
    with Claim("staging", {}):
        assert claim_file("staging").stat().st_mode & 0o777 == 0o666


def test_a_failure_inside_gives_the_environment_back() -> None:
    with pytest.raises(KeyboardInterrupt), Claim("staging", {}):
        raise KeyboardInterrupt

    process = holder()
    process.communicate("")
    assert process.returncode == 0


def test_what_a_refused_rollout_is_told_can_be_said_anew() -> None:
    with Claim("staging", {"run": "one"}) as claim:
        claim.describe({"run": "two", "folder": "somewhere"})

        told = in_words(last_holder("staging"))
        assert told == f"run two, folder somewhere, pid {os.getpid()}"


@pytest.mark.parametrize("content", ["", "{", "[1]", "\0\0"])
def test_a_lock_file_that_says_nothing_still_refuses(content: str) -> None:
    process = holder()
    claim_file("staging").write_text(content)

    with pytest.raises(EnvironmentTakenError, match="it says nothing of itself"):
        Claim("staging", {}).__enter__()

    process.communicate("")


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    claim_file("staging").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ClaimUnusableError, match=r"canary-pipeline-staging\.lock"):
        Claim("staging", {}).__enter__()

    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_asking_takes_nothing_and_believes_the_lock_rather_than_a_pid() -> None:
    process = holder()
    asked = {"run": "the-first", "pid": str(process.pid)}
    assert asked.items() <= (current_holder("staging") or {}).items()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie, whose pid exists

    assert current_holder("staging") is None
    process.communicate()
    # As if the pid were used again, by a process that lives.
    claim_file("staging").write_text(f'{{"run": "the-first", "pid": "{os.getpid()}"}}')
    assert current_holder("staging") is None


def test_a_thousand_questions_never_keep_a_rollout_from_starting() -> None:
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            current_holder("staging")

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(300):
            with Claim("staging", {}):
                assert current_holder("staging") is not None
    finally:
        over.set()
        for thread in asking:
            thread.join()


def test_a_thread_of_the_holder_may_claim_too() -> None:
    with Claim("staging", {}):
        ended: list[bool] = []

        def work() -> None:
            with Claim("staging", {}) as claim:
                ended.append(claim.still_held())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

        assert ended == [True]
        assert current_holder("staging") is not None


def test_the_holder_is_named_with_what_no_other_process_has() -> None:
    with Claim("staging", {}):
        said = last_holder("staging")

    assert said == {"pid": str(os.getpid()), "process": this_process()}


def test_only_who_was_killed_while_it_held_an_environment_is_known_to_be_dead() -> None:
    process = holder()
    said = last_holder("staging")["process"]
    assert killed_holder("staging") == ""  # it lives
    process.kill()
    process.wait()
    assert killed_holder("staging") == said
    assert killed_holder("production") == ""
    with Claim("staging", {}):
        assert killed_holder("staging") == ""  # it was succeeded
    assert killed_holder("staging") == ""  # its successor has given it back


def test_a_holder_of_whom_nobody_knows_is_not_taken_for_dead() -> None:
    """What the lock file says is of another boot, or of a container whose pids are others."""
    process = holder()
    said = last_holder("staging")
    process.kill()
    process.wait()
    boot, pids, pid, began = said["process"].split()
    other_names = ("", pid, f"{uuid4()} {pids} {pid} {began}", f"{boot} pid:[1] {pid} {began}")
    for other in other_names:
        claim_file("staging").write_text(json.dumps({**said, "process": other}))
        assert killed_holder("staging") == ""
    for text in (f'{{"pid": "{pid}"}}', '{"process": 5}', '{"process": null}', "[]"):
        claim_file("staging").write_text(text)
        assert killed_holder("staging") == ""


@pytest.mark.parametrize("replaced", [False, True])
def test_a_holder_notices_that_its_lock_file_was_cleaned_away(*, replaced: bool) -> None:
    with Claim("staging", {}) as claim:
        assert claim.still_held()
        claim_file("staging").unlink()
        if replaced:
            claim_file("staging").touch()

        assert not claim.still_held()


def test_a_lock_on_a_file_that_was_replaced_meanwhile_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, opened = os.open, []

    def replace_after_opening(path: Path, *rest: int) -> int:
        handle = real(path, *rest)
        opened.append(handle)
        if len(opened) == 1:
            path.unlink()
        return handle

    monkeypatch.setattr(os, "open", replace_after_opening)
    with Claim("staging", {}) as claim:
        assert claim.still_held()


def test_two_services_without_a_common_claim_folder_do_not_work_on_one_rollout(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "rollout"
    folder.mkdir()
    program = f"import pathlib\n{HOLD}".replace("Claim\n", "lock_folder\n", 1)
    program = program.replace("Claim('staging'", f"lock_folder(pathlib.Path({str(folder)!r})")
    with lock_folder(folder, {"run": "the-first"}):
        told = subprocess.run(
            [sys.executable, "-c", program], check=False, capture_output=True, text=True, input=""
        )
        assert f"another rollout of {folder} is under way: run the-first" in told.stderr
        assert holder_of(folder / FOLDER_LOCK) is not None

    assert list(folder.iterdir()) == []
    assert holder_of(folder / FOLDER_LOCK) is None


@pytest.mark.parametrize("mode", [0o444, 0o400])
def test_another_user_s_lock_file_is_refused_in_one_line_that_says_what_to_set(
    tmp_path: Path, mode: int
) -> None:
    let_in(tmp_path)
    with Claim("staging", {"run": "root-s"}):
        claim_file("staging").chmod(mode)
        told = as_nobody(sys.executable, "-c", HOLD, PYTHONDONTWRITEBYTECODE="1")
    last = told.stderr.splitlines()[-1]

    assert told.returncode == 1
    assert ("run root-s" if mode == 0o444 else "set CANARY_PIPELINE_CLAIM_DIR") in last


REFUSALS: Mapping[str, tuple[str, str]] = {
    "no such folder": ("", "No such file or directory"),
    "a file system without locks": ("fcntl:error=ENOLCK", "No locks available"),
    "inodes used up": ("openat:error=ENOSPC", "No space left on device"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_host_that_cannot_lock_is_told_what_to_set(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject, why = REFUSALS[kind]
    if not inject:
        monkeypatch.setenv("CANARY_PIPELINE_CLAIM_DIR", str(tmp_path / "nowhere"))
    last = _straced(inject, claim_file("staging")).stderr.splitlines()[-1]

    assert why in last
    assert "set CANARY_PIPELINE_CLAIM_DIR" in last


def test_a_kernel_without_such_locks_has_flock() -> None:
    ended = _straced("fcntl:error=EINVAL", claim_file("staging"))

    assert (ended.returncode, ended.stdout) == (0, "held\n")


def _straced(inject: str, path: Path) -> "subprocess.CompletedProcess[str]":
    """Hold the environment in a process whose system calls on the lock file fail."""
    return subprocess.run(
        [*(failing(inject, of=[path]) if inject else []), sys.executable, "-c", HOLD],
        check=False,
        capture_output=True,
        text=True,
        input="",
    )
