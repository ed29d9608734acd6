"""Where the time of one rollout went, from Dagster's event log and the evidence folder alone."""

import json
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from benchmarks.world import Run

ASKED = "STEP_WORKER_STARTING"
ALIVE = "STEP_WORKER_STARTED"
BEGUN = "STEP_START"
YIELDED = "STEP_OUTPUT"
ENDED = "STEP_SUCCESS"

OPENING = "staging_canary__canary_env_sequence"
GATE_RESULTS = "staging_gates.staging_gate_results"
COHORT_RESULTS = "staging_cohorts.staging_cohort_results"
SUMMARY = "staging_canary__summary"


@dataclass(frozen=True)
class Event:
    """An event of the log.

    Attributes:
        at: Seconds since the command was started.
        kind: Dagster's name of it.
        step: The step that it is of, if any.
    """

    at: float
    kind: str
    step: str | None


@dataclass(frozen=True)
class Phase:
    """A stretch of the rollout, in seconds since the command was started."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


@dataclass(frozen=True)
class StepTimes:
    """One step, in seconds.

    Attributes:
        step: Its name.
        gap: Since the previous step ended.
        process: From being asked for until its process runs.
        preparation: From there until its body begins.
        body: What the step is for.
        record: From there to its end: outputs, checks and assets go to the event log.
    """

    step: str
    gap: float
    process: float
    preparation: float
    body: float
    record: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.gap + self.process + self.preparation + self.body + self.record


class Spent:
    """The times of one run of the default plan."""

    def __init__(self, run: Run) -> None:
        """Read what the run left."""
        self._run = run
        self._events = _events(run)

    def phases(self) -> list[Phase]:
        """The whole run, from the command's start to its exit, without a gap."""
        header = json.loads((self._run.rollout / "rollout.json").read_text())
        opened = datetime.fromisoformat(header["started_at"]).timestamp()
        gates = self._gates()
        cohorts = self._cohorts()
        marks = (
            ("settings, claim, the rollout's folder", opened - self._run.measured.started_at),
            ("imports, Dagster instance, definitions, run record", self._events[0].at),
            ("events of the run's start", self._at(ASKED, OPENING)),
            ("step that opens the rollout", self._at(ENDED, OPENING)),
            ("from there to the first gate", min(self._at(ASKED, gate) for gate in gates)),
            ("gates", max(self._at(ENDED, gate) for gate in gates)),
            ("step `gate_results`", self._at(ENDED, GATE_RESULTS)),
            (f"{len(cohorts)} cohorts", max(self._at(ENDED, cohort) for cohort in cohorts)),
            ("step `cohort_results`", self._at(ENDED, COHORT_RESULTS)),
            ("step `summary`, with the timeline's picture", self._at(ENDED, SUMMARY)),
            ("end of the run", self._events[-1].at),
            ("the decision printed, exit", self._run.measured.seconds),
        )
        starts = (0.0, *(end for _, end in marks))
        return [Phase(name, start, end) for start, (name, end) in zip(starts, marks, strict=False)]

    def steps(self) -> list[StepTimes]:
        """Every step, in the order in which they were asked for."""
        asked = [event for event in self._events if event.kind == ASKED and event.step]
        return [self._step(event.step or "", event.at) for event in asked]

    def _step(self, step: str, asked: float) -> StepTimes:
        before = [event.at for event in self._events if event.kind == ENDED and event.at <= asked]
        alive, begun = self._at(ALIVE, step), self._at(BEGUN, step)
        yielded, ended = self._at(YIELDED, step), self._at(ENDED, step)
        return StepTimes(
            step=step,
            gap=asked - max(before, default=asked),
            process=alive - asked,
            preparation=begun - alive,
            body=yielded - begun,
            record=ended - yielded,
        )

    def _gates(self) -> list[str]:
        return self._named("staging_gates.", GATE_RESULTS)

    def _cohorts(self) -> list[str]:
        return self._named("staging_cohorts.", COHORT_RESULTS)

    def _named(self, prefix: str, but: str) -> list[str]:
        steps = {event.step for event in self._events if event.kind == ASKED and event.step}
        return [step for step in steps if step.startswith(prefix) and step != but]

    def _at(self, kind: str, step: str) -> float:
        """When a step's first event of a kind was; a kind the log lacks is an error here."""
        return next(event.at for event in self._events if event.kind == kind and event.step == step)


def _events(run: Run) -> list[Event]:
    with dg.DagsterInstance.from_config(str(run.dagster_home)) as instance:
        [record] = instance.get_run_records()
        entries = instance.all_logs(record.dagster_run.run_id)
    found = [
        Event(
            entry.timestamp - run.measured.started_at,
            entry.dagster_event.event_type_value,
            entry.step_key,
        )
        for entry in entries
        if entry.dagster_event is not None
    ]
    return sorted(found, key=lambda event: event.at)
