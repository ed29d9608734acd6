"""Staged canary rollouts as a Dagster pipeline.

`dagster … -m canary_pipeline` finds `defs` here; it is imported when asked for, so that the
package itself is imported in no time.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "defs":
        from canary_pipeline.definitions import defs  # noqa: PLC0415 - only when asked for

        return defs
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return [*globals(), "defs"]
