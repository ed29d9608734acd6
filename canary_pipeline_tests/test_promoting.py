"""What the promotion job does, as `docs/promoting.md` shows it, with signed folders."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canary_pipeline.outside.signature import Signers
from canary_pipeline.reports.decided import write_decision
from canary_pipeline.reports.verification import Demands, verify
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.layout import RESULTS
from canary_pipeline_tests.conftest import PROGRAMS
from canary_pipeline_tests.decided_folders import Rollouts
from canary_pipeline_tests.fake_staging import FakeStaging, answer

PAGE = (Path(__file__).parent.parent / "docs" / "promoting.md").read_text()
KEY_VARIABLE = "OA_STAGING_CANARY_SIGNING_KEY"


@dataclass
class Signing:
    """Keys, and signers that a promoter allows."""

    world: Rollouts

    def key(self, name: str, passphrase: str = "") -> Path:
        """Make a key."""
        key = self.world.folder / name
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(key)]
        subprocess.run(words, check=True)
        return key

    def signers(self, key: Path, options: str = 'namespaces="canary-rollout"') -> Path:
        """Allow a key, as `me`."""
        public = key.with_suffix(".pub").read_text()
        file = self.world.folder / f"{key.name}.signers"
        file.write_text(f"me {options} {public}")
        return file


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signing]:
    with FakeStaging.serving("token-that-must-stay-secret") as staging:
        yield Signing(Rollouts(tmp_path_factory.mktemp("world"), staging))


@pytest.fixture(scope="module")
def key(signing: Signing) -> Path:
    return signing.key("key")


@pytest.fixture(scope="module")
def kept(signing: Signing, key: Path) -> Path:
    return signing.world.rollout("signed", more={KEY_VARIABLE: str(key)})


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "rollouts" / "signed")


def problem(folder: Path, signers: Path, name: str = "me", revoked: Path | None = None) -> str:
    demands = Demands(signers=Signers(signers, name, revoked))
    found = verify(Evidence(folder), demands, datetime.now(UTC))
    assert (found.answer == "none") == bool(found.reasons)
    return "; ".join(found.reasons)


def test_a_decision_is_signed_as_it_is_written(signing: Signing, key: Path, folder: Path) -> None:
    signers = ("--signers", str(signing.signers(key)), "--signer", "me")

    told = signing.world.command("verify", str(folder), *signers).stdout

    assert told.endswith("Decision: allow (consistent, signed by me)\n")


def test_only_a_valid_signature_of_the_signer_for_this_purpose_counts(
    signing: Signing, key: Path, folder: Path
) -> None:
    other = signing.key("other")
    revoked = signing.world.folder / "revoked"
    revoked.write_text(key.with_suffix(".pub").read_text())

    assert problem(folder, signing.signers(key)) == ""
    assert "decision.json.sig" in problem(folder, signing.signers(other))
    assert "decision.json.sig" in problem(folder, signing.signers(key), "somebody else")
    assert "decision.json.sig" in problem(folder, signing.signers(key), revoked=revoked)
    assert problem(folder, signing.signers(key, 'valid-before="20200101"'))
    assert problem(folder, signing.signers(key, 'namespaces="git"'))
    assert problem(folder, Path("/no/such/file"))
    (folder / "decision.json.sig").unlink()
    assert "is missing: the decision is not signed" in problem(folder, signing.signers(key))


def test_a_forged_folder_that_is_consistent_is_not_signed(
    signing: Signing, key: Path, folder: Path
) -> None:
    forged = signing.world.rollout("unsigned")
    shutil.copy(folder / "decision.json.sig", forged)

    assert verify(Evidence(forged), Demands(), datetime.now(UTC)).answer == "allow"
    assert "decision.json.sig" in problem(forged, signing.signers(key))


def test_a_public_key_signs_by_the_agent(signing: Signing) -> None:
    key = signing.key("in-agent")
    agent = shutil.which("ssh-agent") or ""
    started = subprocess.run([agent, "-s"], capture_output=True, text=True, check=True)
    variables = dict(re.findall(r"(SSH_\w+)=([^;]+);", started.stdout))
    try:
        add = ["ssh-add", "-q", str(key)]
        subprocess.run(add, env={**os.environ, **variables}, check=True)
        key.unlink()
        public = str(key.with_suffix(".pub"))
        folder = signing.world.rollout("by-agent", more={KEY_VARIABLE: public, **variables})
    finally:
        os.kill(int(variables["SSH_AGENT_PID"]), 15)

    assert problem(folder, signing.signers(key)) == ""
    logs = list(folder.glob("logs/gate-*.log"))
    assert [log.read_text() for log in logs] == ["all is well\n"] * 4, "a gate saw key or agent"


@pytest.mark.parametrize("what", ["locked", "missing", "no key"])
def test_a_key_that_cannot_sign_is_a_warning_and_an_unsigned_decision(
    what: str, signing: Signing, tmp_path: Path
) -> None:
    key = tmp_path / what
    if what == "locked":
        key = signing.key("locked", "a passphrase")
    elif what == "no key":
        key.write_text("no key")

    folder = signing.world.rollout(f"with-{what}", more={KEY_VARIABLE: str(key)})

    assert not (folder / "decision.json.sig").exists()
    assert verify(Evidence(folder), Demands(), datetime.now(UTC)).answer == "allow"
    assert f"signature: the decision is not signed: {key}" in (folder / "SUMMARY.md").read_text()


def test_a_second_person_signs_what_verifies_and_nothing_else(
    signing: Signing, folder: Path
) -> None:
    second = signing.key("second")

    told = signing.world.command("sign", str(folder), "--key", str(second)).stdout
    assert told == f"signed: {folder}/decision.json.sig (decision: allow)\n"
    assert problem(folder, signing.signers(second)) == ""

    signing.world.command("sign", str(folder), code=2)
    (folder / "SUMMARY.md").write_text("Decision: allow\n")
    refused = signing.world.command("sign", str(folder), "--key", str(second), code=3).stderr
    assert "not signed: SUMMARY.md is not the file that decision.json names" in refused


# -- the page ---------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


yaml = pytest.importorskip("yaml")
GITHUB, GITLAB = (yaml.safe_load(text)["promote"] for text in blocks("yaml"))
[SHELL] = blocks("sh")
[COMMAND_OF_GITHUB] = [step["run"] for step in GITHUB["steps"] if "verify" in step.get("run", "")]
[COMMAND_OF_GITLAB] = [line for line in GITLAB["script"] if "verify" in line]

CHECKS = {
    "GitHub Actions": COMMAND_OF_GITHUB,
    "GitLab": COMMAND_OF_GITLAB,
    "shell": 'sh -eu promotable rollouts/signed "$GITHUB_SHA" allowed_signers staging-rollouts',
}


def test_the_jobs_ask_for_the_default_plan_and_the_shell_is_short() -> None:
    plan = {"COHORTS": "5,10,25,50,100", "SOAK_SECONDS": "900"}

    assert GITHUB["env"] == GITLAB["variables"] == plan
    assert len(SHELL.splitlines()) <= 15


def promoted(check: str, folder: Path, signing: Signing, key: Path, **variables: str) -> bool:
    """Whether the check of the page lets this folder through."""
    if check == "shell" and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    here = folder.parent.parent
    (here / "promotable").write_text(SHELL)
    allowed = signing.signers(key).read_text().replace("me ", "staging-rollouts ", 1)
    (here / "allowed_signers").write_text(allowed)
    commit = signing.world.commit
    done = subprocess.run(
        ["/bin/bash", "-euc", CHECKS[check]],
        cwd=here,
        env={
            **signing.world.variables,
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "GITHUB_SHA": commit, "CI_COMMIT_SHA": commit,
            "COHORTS": "5,25,100", "SOAK_SECONDS": "0",
            **variables,
        },
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_lets_only_this_very_allow_through(
    check: str, folder: Path, signing: Signing, key: Path
) -> None:
    def let_through(**variables: str) -> bool:
        return promoted(check, folder, signing, key, **variables)

    other = "0" * 40
    assert let_through()
    assert not let_through(GITHUB_SHA=other, CI_COMMIT_SHA=other)
    assert not let_through(COHORTS="5,10,25,50,100")
    assert not let_through(SOAK_SECONDS="900")
    assert not promoted(check, folder, signing, signing.key(f"not-{check}"))
    log = next((folder / "logs").iterdir())
    log.write_bytes(log.read_bytes() + b"!")
    assert not let_through()


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_stops_a_block_however_well_signed(
    check: str, signing: Signing, key: Path, tmp_path: Path
) -> None:
    signing.world.staging.probes[25] = answer(500, {})
    try:
        signed = {KEY_VARIABLE: str(key)}
        made = signing.world.rollout(f"block-{check}", code=1, more=signed)
    finally:
        signing.world.staging.probes.clear()
    folder = shutil.copytree(made, tmp_path / "rollouts" / "signed")

    assert problem(folder, signing.signers(key)) == ""
    assert not promoted(check, folder, signing, key)


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_stops_an_allow_of_another_environment(
    check: str, folder: Path, signing: Signing, key: Path
) -> None:
    header = folder / "rollout.json"
    header.write_text(header.read_text().replace('"staging"', '"staging-eu"'))
    evidence = Evidence(folder)
    write_decision(evidence, evidence.verified_record(), key)

    assert problem(folder, signing.signers(key)) == ""
    assert not promoted(check, folder, signing, key)


LONG_AGO = "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_stops_an_allow_of_today_on_what_was_seen_long_ago(
    check: str, folder: Path, signing: Signing, key: Path
) -> None:
    evidence = Evidence(folder)
    rows = evidence.record().rows
    for name in RESULTS:
        evidence.remove(name)
    for row in rows:
        told = [name for name in type(row).model_fields if name.endswith("ed_at")]
        evidence.add(row.model_copy(update=dict.fromkeys(told, LONG_AGO)))
    evidence.update_header(lambda header: header.model_copy(update={"sealed": evidence.seal({})}))
    write_decision(evidence, evidence.verified_record(), key)

    assert problem(folder, signing.signers(key)) == ""
    assert not promoted(check, folder, signing, key)
