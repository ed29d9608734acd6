"""One rollout of an environment at a time, across processes, without anything to clean up."""

import subprocess
import sys
from pathlib import Path

import pytest

from canary_pipeline.outside.claim import Claim, EnvironmentTakenError, claim_file, last_holder

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
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
        assert last_holder("staging") == {"run": "the-second"}
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

        assert last_holder("staging") == {"run": "two", "folder": "somewhere"}


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

    with pytest.raises(OSError, match=r"canary-pipeline-staging\.lock"):
        Claim("staging", {}).__enter__()

    assert (tmp_path / "elsewhere").read_text() == "precious"
