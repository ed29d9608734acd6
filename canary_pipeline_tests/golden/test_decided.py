"""What any version has decided verifies for ever, as it was written, with the same answer."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canary_pipeline.outside.signature import Signers
from canary_pipeline.reports.verification import Demands, verify
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.golden.decided import DECIDED, SIGNERS

ANSWERS = {"allow": "allow", "block": "block", "signed": "allow"}
SCHEMAS = sorted(path.name for path in DECIDED.iterdir())
COMMIT = {"schema-1": "b5cd39e4c9766ce6016da5c6dfe208e21bf03121"}


NOTHING_MORE = Demands()


def found(folder: Path, demands: Demands = NOTHING_MORE) -> tuple[str, tuple[str, ...]]:
    said = verify(Evidence(folder), demands, datetime.now(UTC))
    return said.answer, said.reasons


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_golden_decision_verifies_as_it_was_written(schema: str, name: str) -> None:
    assert found(DECIDED / schema / name) == (ANSWERS[name], ())


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_golden_signature_verifies_for_its_commit_and_no_other_decision_is_signed(
    schema: str, tmp_path: Path
) -> None:
    golden = DECIDED / schema
    asked = Demands(signers=Signers(golden / SIGNERS, "golden"), commit=COMMIT[schema])

    assert found(golden / "signed", asked) == ("allow", ())
    assert found(golden / "allow", asked)[0] == "none"
    forged = shutil.copytree(golden / "allow", tmp_path / "forged")
    shutil.copy(golden / "signed" / "decision.json.sig", forged)
    assert found(forged)[0] == "allow"
    assert found(forged, asked)[0] == "none"
