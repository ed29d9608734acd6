"""`decision.json`: a decision for programs, as an in-toto statement of test results.

What a statement of one schema says of a folder never changes, so that those of today verify later.
"""

import json
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from canary_pipeline.model.commit import tested
from canary_pipeline.model.decision import Decision, cohort_is_clear, gate_is_clear
from canary_pipeline.model.environment import DEMO
from canary_pipeline.model.record import Record
from canary_pipeline.store.layout import HEADER, SUMMARY

EXTENSION: Final = "urn:canary-pipeline:decision"
"""The key of what this program says beyond the predicate's own fields."""

Digests = dict[str, str]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, serialize_by_alias=True)


class Described(_Part):
    """Something by its digest: in-toto's resource descriptor."""

    name: str
    digest: Digests = Field(description="By algorithm, in hexadecimal.")


class Because(_Part):
    """Something that blocks."""

    text: str
    evidence: str = Field(description="The file that shows it, relative to the rollout's folder.")


class Details(_Part):
    """What the rollout did, and what the decision was derived from."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    decision: Literal["allow", "block"]
    reasons: tuple[Because, ...]
    environment: str
    decided_at: str | None
    commit: str | None = Field(description="The one that was tested, without any other change.")
    commits: tuple[str, ...] = Field(description="Every commit that was seen while it was tested.")
    dirty: bool | None = Field(description="Whether there were changes; null where unknown.")
    cohorts: tuple[int, ...] = Field(description="Percents of users, in order.")
    soak_seconds: int = Field(description="What each cohort was to soak.")
    probes_live: bool = Field(description="Whether cohorts were probed.")
    live: dict[str, int] = Field(description="By cohort, the percent that staging said was live.")
    control_base_url: str | None = Field(description="Without user info and query values.")
    run_ids: tuple[str, ...]
    versions: dict[str, str]
    files: Digests = Field(description="By name, the SHA-256 of every file but pictures.")


class Predicate(_Part):
    """The predicate test-result v0.1."""

    result: Literal["PASSED", "FAILED"] = Field(description="PASSED is allow.")
    configuration: tuple[Described, ...]
    passed_tests: tuple[str, ...] = Field(alias="passedTests")
    warned_tests: tuple[str, ...] = Field(
        alias="warnedTests", description="Cohorts that nobody probed, since nothing is configured."
    )
    failed_tests: tuple[str, ...] = Field(alias="failedTests")
    details: Details = Field(alias=EXTENSION)


class Statement(_Part):
    """An in-toto statement v1 about the commit that was tested, and about `SUMMARY.md`."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", alias="_type"
    )
    subject: tuple[Described, ...]
    predicate_type: Literal["https://in-toto.io/attestation/test-result/v0.1"] = Field(
        default="https://in-toto.io/attestation/test-result/v0.1", alias="predicateType"
    )
    predicate: Predicate

    @property
    def details(self) -> Details:
        """What the rollout did."""
        return self.predicate.details


def statement_text(record: Record, decision: Decision, files: Digests) -> str:
    """Write the statement of a decision.

    Args:
        record: What the folder holds.
        decision: What follows from it.
        files: By name, the digest of every other file.
    """
    statement = Statement(
        subject=_subjects(record, files),
        predicate=Predicate.model_validate(
            {
                "result": "PASSED" if decision.allowed else "FAILED",
                "configuration": (Described(name=HEADER, digest={"sha256": files[HEADER]}),),
                **_tests(record),
                EXTENSION: _details(record, decision, files),
            }
        ),
    )
    return json.dumps(statement.model_dump(mode="json"), indent=1) + "\n"


def _subjects(record: Record, files: Digests) -> tuple[Described, ...]:
    commit = tested(record).clean_commit
    summary = Described(name=SUMMARY, digest={"sha256": files[SUMMARY]})
    if commit is None or record.header.environment == DEMO:
        return (summary,)
    return (Described(name="checkout", digest={"gitCommit": commit}), summary)


def _tests(record: Record) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {"passed": [], "skipped": [], "failed": []}
    for gate, row in record.gates:
        if row is not None and row.status != "skipped":
            found["passed" if gate_is_clear(record, gate.name) else "failed"].append(gate.name)
    for percent, cohort in record.cohorts:
        if cohort is not None and cohort_is_clear(record, percent):
            found[cohort.status].append(cohort_name(percent))
        elif cohort is not None and cohort.status != "skipped":
            found["failed"].append(cohort_name(percent))
    return {
        "passedTests": tuple(found["passed"]),
        "warnedTests": tuple(found["skipped"]),
        "failedTests": tuple(found["failed"]),
    }


def cohort_name(percent: int) -> str:
    """What a cohort is called among the tests."""
    return f"cohort {percent}"


def _details(record: Record, decision: Decision, files: Digests) -> Details:
    header, at = record.header, tested(record)
    return Details(
        decision="allow" if decision.allowed else "block",
        reasons=tuple(Because(text=why.text, evidence=why.evidence) for why in decision.reasons),
        environment=header.environment,
        decided_at=header.decided_at,
        commit=at.clean_commit,
        commits=at.commits,
        dirty=at.dirty,
        cohorts=header.cohorts,
        soak_seconds=header.soak_seconds,
        probes_live=header.probes_are_live,
        live={str(p): row.live.user_percent for p, row in record.cohorts if row and row.live},
        control_base_url=header.control_base_url,
        run_ids=tuple(header.run_ids),
        versions=header.versions,
        files=files,
    )


def json_schema() -> str:
    """The JSON schema that is published as `docs/decision.schema.json`."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Statement.model_json_schema(mode="serialization"),
    }
    return json.dumps(schema, indent=2) + "\n"
