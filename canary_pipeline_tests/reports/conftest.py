"""The parts that tests of the core are made of."""

from canary_pipeline_tests.rollout.conftest import clock, context, evidence, settings

__all__ = ["clock", "context", "evidence", "settings"]
