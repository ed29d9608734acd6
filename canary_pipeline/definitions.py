"""The code location: what Dagster loads."""

import os

from canary_pipeline.environments import served
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions

defs = rollout_definitions(served(os.environ), os.environ)
