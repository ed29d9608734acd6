"""The job, resolved once: processes that are forked from one that has this need not do it again."""

from canary_pipeline.definitions import defs
from canary_pipeline.environments import STAGING

job = defs.resolve_job_def(STAGING.job_name)
