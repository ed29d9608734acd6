"""The definitions of an environment with many gates, each of which sleeps for a second."""

import os

from canary_pipeline.model.plan import Environment, Gate
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions

COUNT_VARIABLE = "BENCHMARK_GATES"
GATE_SECONDS = 1

WIDE = Environment(
    name="wide",
    title="Rollout With Many Gates",
    gates=tuple(
        Gate(f"gate-{number}", f"sleep {GATE_SECONDS}")
        for number in range(int(os.environ.get(COUNT_VARIABLE, "64")))
    ),
    default_cohorts=(5,),
    default_soak_seconds=0,
)

defs = rollout_definitions(WIDE, os.environ)
