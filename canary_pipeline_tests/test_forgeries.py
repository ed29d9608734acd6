"""No forgery is believed, none makes a reader wait or fall, and all readers answer alike."""

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canary_pipeline.commands.exits import Exit
from canary_pipeline.commands.status import tell as tell_status
from canary_pipeline.commands.verify import tell
from canary_pipeline.environments import STAGING
from canary_pipeline.outside.signature import Signers
from canary_pipeline.reports.history import read_rollout
from canary_pipeline.reports.newest import verify_newest
from canary_pipeline.reports.notice import deliver
from canary_pipeline.reports.verification import Demands, check, verify
from canary_pipeline.settings import SettingError
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.outbox import Item, Outbox
from canary_pipeline_tests.forgeries import CONSISTENT, FORGERIES, GOLDEN
from canary_pipeline_tests.golden.decided import SIGNERS
from canary_pipeline_tests.orchestration.test_decision_sensor import Receiver, receiver
from canary_pipeline_tests.outside.another_user import as_nobody, let_in

__all__ = ["receiver"]

pytestmark = pytest.mark.timeout(60)

NOW = datetime(2027, 1, 1, tzinfo=UTC)
GOOD = Signers(GOLDEN / SIGNERS, "golden")
VERIFY = (sys.executable, "-m", "canary_pipeline_tests.core_alone", "verify")
EXITS = {"allow": Exit.ALLOW, "block": Exit.BLOCK, "none": Exit.NO_DECISION}


def subject(folder: Path) -> str:
    said = json.loads((folder / "decision.json").read_text())
    return str(said["subject"][0]["digest"]["gitCommit"])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLAIM_DIR", "STATE_DIR"):
        monkeypatch.setenv(f"CANARY_PIPELINE_{name}", str(tmp_path / "state"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "root"


def forged(root: Path, name: str, kept: str = "allow") -> Path:
    folder = shutil.copytree(GOLDEN / kept, root / "forged")
    {**FORGERIES, **{key: forge for key, (_, forge) in CONSISTENT.items()}}[name](folder)
    return folder


@pytest.mark.parametrize("name", [*FORGERIES, *CONSISTENT])
def test_a_signature_counts_for_the_very_folder_that_was_signed(name: str, root: Path) -> None:
    forged_one = forged(root, name, "signed")
    if not (forged_one / "decision.json.sig").exists():
        shutil.copy(GOLDEN / "signed" / "decision.json.sig", forged_one)
    demands = Demands(signers=GOOD, commit=subject(GOLDEN / "signed"))
    untouched = name in ("nothing at all", "a pipe for what passes")

    found = verify(Evidence(forged_one), demands, NOW)

    assert (found.answer, found.signer) == (("allow", "golden") if untouched else ("none", None))


@pytest.mark.parametrize("name", [*FORGERIES, *CONSISTENT])
def test_all_readers_answer_alike(
    name: str, root: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = forged(root, name)
    evidence = Evidence(folder)
    expected = CONSISTENT[name][0] if name in CONSISTENT else "none"

    found = check(evidence)
    assert (found.answer, bool(found.changed)) == (expected, expected == "none")
    assert verify_newest(root, Demands(), NOW).answer == expected

    past = read_rollout(evidence)
    assert (past.decision or "none") == expected
    assert (past.verifies or False) == (expected != "none")

    assert tell(folder, Demands(), as_json=True) == EXITS[expected]
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (told["answer"], told["decision"] is None) == (expected, expected == "none")

    assert status_of(evidence, capsys) == expected
    assert notice_of(evidence, receiver) == ("no decision" if expected == "none" else expected)


def status_of(evidence: Evidence, capsys: pytest.CaptureFixture[str]) -> str:
    """What `status` says; the same as it prints for programs."""
    unknown = SettingError("control_base_url", "unset", "a URL")
    tell_status(evidence, unknown, STAGING)
    told = capsys.readouterr().out.splitlines()[-1].removeprefix("Decision: ").split()[0]
    tell_status(evidence, unknown, STAGING, as_json=True)
    printed = capsys.readouterr().out
    programs = json.loads(printed)["predicate"]["result"] if printed else "none"
    assert {"PASSED": "allow", "FAILED": "block", "none": "none"}[programs] == told
    return told


def notice_of(evidence: Evidence, receiver: Receiver) -> str:
    """What people are told who would have been told `allow`."""
    item = Item(
        environment="staging", folder=str(evidence.folder), attempt=1, decision="allow",
        reasons=(), run_id="r", at=datetime.now(UTC),
    )  # fmt: skip
    Outbox("staging").put(item)
    assert deliver("staging", receiver.url) == (1, [])
    [(_, body)] = receiver.got
    return str(body["decision"])


# -- the newest below a root ------------------------------------------------------------------


def test_a_folder_that_cannot_be_looked_into_may_hold_the_newest(root: Path) -> None:
    shutil.copytree(GOLDEN / "allow", root / "allow")
    (root / "closed").mkdir(mode=0)
    let_in(root)
    told = as_nobody(*VERIFY, str(root))

    assert (told.returncode, told.stderr) == (3, "")
    assert "closed/rollout.json cannot be read: [Errno 13] Permission denied" in told.stdout
    (root / "closed").chmod(0o755)
    assert as_nobody(*VERIFY, str(root)).returncode == 0
