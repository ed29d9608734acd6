"""Parts for tests of what touches the world: the same clock and staging as the core's."""

from canary_pipeline_tests.rollout.conftest import clock, one_staging, staging

__all__ = ["clock", "one_staging", "staging"]
