"""The code location: what Dagster loads."""

import os

from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline.staging import STAGING

defs = rollout_definitions(STAGING, os.environ)
