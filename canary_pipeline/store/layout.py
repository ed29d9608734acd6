"""The names of a rollout's files, relative to its folder, and which of them are temporary."""

from pathlib import Path, PurePath

from canary_pipeline.model.plan import SnapshotKind

HEADER = "rollout.json"
GATE_RESULTS = "gate-results.jsonl"
COHORT_RESULTS = "cohort-results.jsonl"
ROLLBACK_RESULTS = "rollback-results.jsonl"
RESULTS = (GATE_RESULTS, COHORT_RESULTS, ROLLBACK_RESULTS)
WARNINGS = "warnings.jsonl"
ENV_SEQUENCE = "canary-env-sequence.txt"
SUMMARY = "SUMMARY.md"
DECISION = "decision.json"
SIGNATURE = "decision.json.sig"
OF_A_ROLLOUT = (HEADER, SUMMARY, DECISION, *RESULTS)
"""What only a rollout's folder holds."""
TIMELINE = "timeline.png"
LOGS = "logs"
IN_FLIGHT = "in-flight"
ROLLBACK_ENV = "env/rollback.env"

TEMPORARY = ".*-*"
"""What a file is called while it is written, before it takes its name."""

_CLAIM = ".claim"
PUBLISHED = ".published.json"
"""What is published of it, for whoever goes on with it on this host."""
UNPUBLISHED = "unpublished"
"""What this host has written and not published before another host went on."""


def is_decided_on(name: str) -> bool:
    """Whether a decision is about this file: about all but itself, pictures and what passes."""
    path = PurePath(name)
    passing = path.parts[:1] in ((IN_FLIGHT,), (UNPUBLISHED,)) or path.match(TEMPORARY)
    passing = passing or name in (_CLAIM, PUBLISHED)
    return not passing and name not in (DECISION, SIGNATURE) and path.suffix != ".png"


def _numbered(name: str, attempt: int) -> str:
    """A name that later attempts do not share: it carries their number from the second on."""
    path = Path(name)
    return name if attempt == 1 else str(path.with_stem(f"{path.stem}.{attempt}"))


def gate_log(gate: str, attempt: int) -> str:
    """The log of a gate."""
    return _numbered(f"{LOGS}/gate-{gate}.log", attempt)


def apply_log(percent: int, attempt: int) -> str:
    """The log of the command that made a cohort live."""
    return _numbered(f"{LOGS}/apply-{percent}.log", attempt)


def free_rollback_log(folder: Path, attempt: int) -> str:
    """The log of a rollback; one that was stopped and made again has one for each."""
    name = f"{LOGS}/rollback-{attempt}.log"
    number = 2
    while (folder / name).exists():
        name = f"{LOGS}/rollback-{attempt}.{number}.log"
        number += 1
    return name


def response(percent: int, attempt: int) -> str:
    """The body of a cohort's probe."""
    return _numbered(f"cohort-{percent}.json", attempt)


def health(percent: int) -> str:
    """The looks at staging while a cohort soaked."""
    return f"health-{percent}.jsonl"


def cohort_env(percent: int) -> str:
    """The variables that make a cohort live, as a file."""
    return f"env/cohort-{percent}.env"


def snapshot(kind: SnapshotKind, moment: str) -> str:
    """What staging said of itself.

    Args:
        kind: What was read.
        moment: `before`, `after`, `before_<p>` or `after_<p>`.
    """
    return f"{kind}_{moment}.json"


def in_flight(step: str) -> str:
    """What a step that has begun and not ended was doing."""
    return f"{IN_FLIGHT}/{step.replace(' ', '-')}.json"
