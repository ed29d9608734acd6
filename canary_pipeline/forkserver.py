"""The process that the processes of steps are forked from, with all they need imported already."""

import multiprocessing
from multiprocessing import forkserver

PRELOADED_MODULES = (
    "dagster",
    "dagster._cli",
    "dagster._core.executor.multiprocess",
    "dagster._core.launcher",
    "dagster._core.run_coordinator",
    "dagster._core.storage.base_storage",
    "dagster._core.storage.legacy_storage",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "alembic",
    "sqlalchemy.dialects.sqlite",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.instance.factory",
    "dagster._core.storage.migration.utils",
    "dagster._core.system_config.composite_descent",
    "dagster._core.utility_ops",
    "dagster._core.workspace.autodiscovery",
    "dagster._utils.test.definitions",
    "fsspec",
    "multiprocessing.queues",
    "multiprocessing.synchronize",
    "upath.core",
    "pandas",
    "canary_pipeline.commands.run",
    "canary_pipeline.outside.http",
    "canary_pipeline.reports.summary",
    "canary_pipeline.preloaded_job",
)
"""What every step's process would otherwise import for itself, which took most of its time."""


def start_early() -> None:
    """Start importing now, on another core, what Dagster would start importing seconds later.

    Steps inherit the environment as it is at this moment.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOADED_MODULES))
    forkserver.ensure_running()
