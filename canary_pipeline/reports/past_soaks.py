"""What past soaks have shown, and the limits that this suggests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from canary_pipeline.model.limits import Limit
from canary_pipeline.model.record import Record
from canary_pipeline.model.soaks import growths, proposed_limits
from canary_pipeline.model.watching import unsupported
from canary_pipeline.reports.health import watched_soaks
from canary_pipeline.store.folder import Evidence, NotARolloutError


@dataclass
class PastSoaks:
    """The passed soaks of rollouts to one environment that soak equally long.

    Attributes:
        environment: Its name; what is healthy in another one says nothing of it.
        seconds: How long they were to last.
        grown: By cohort, the growth of each number in each of its soaks.
    """

    environment: str
    seconds: int
    grown: dict[int, list[Mapping[str, float]]] = field(default_factory=dict)

    def proposals(self) -> dict[int, tuple[Limit, ...]]:
        """By cohort, the limits that its soaks suggest."""
        return {percent: proposed_limits(self.grown[percent]) for percent in sorted(self.grown)}


def past_soaks(rollouts: Iterable[Evidence]) -> list[PastSoaks]:
    """The passed soaks of rollouts, newest first, by environment.

    Not among them are those of another length than the newest of their environment, of dry runs,
    whose percents nobody made live, or with looks that do not bear them out.
    """
    found: dict[str, PastSoaks] = {}
    for evidence in rollouts:
        try:
            record = evidence.record()
        except NotARolloutError:
            continue
        grown = {} if record.header.skip_gates else _passed(record, evidence)
        if not grown:
            continue
        name, seconds = record.header.environment, record.header.soak_seconds
        soaks = found.setdefault(name, PastSoaks(name, seconds))
        if soaks.seconds == seconds:
            for percent, growth in grown.items():
                soaks.grown.setdefault(percent, []).append(growth)
    return [found[name] for name in sorted(found)]


def _passed(record: Record, evidence: Evidence) -> Mapping[int, Mapping[str, float]]:
    rows = dict(record.cohorts)
    return {
        percent: growths(looks)
        for percent, _, looks in watched_soaks(record, evidence)
        if (row := rows[percent]) is not None
        and row.status == "passed"
        and unsupported(record.header, row, looks) is None
    }


def proposal_lines(found: Sequence[PastSoaks]) -> Sequence[str]:
    """The proposals for a terminal, with what each of them means; of several, under their names."""
    lines: list[str] = []
    for each in found:
        lines += [f"{each.environment}:"] if len(found) > 1 else []
        lines += _lines_of(each)
    return lines


def _lines_of(found: PastSoaks) -> list[str]:
    lines = []
    for percent, limits in found.proposals().items():
        count = len(found.grown[percent])
        soaks = f"{count} passed soak{'s' * (count != 1)} of {found.seconds} s"
        meaning = f"a healthy soak exceeds one with probability at most 1/{count + 1}"
        lines += [f"cohort {percent} %, the largest growths in {soaks}; {meaning}:"]
        lines += [f"  {limit}" for limit in limits]
    return [*lines, "a limit holds for every cohort: take the largest"]
