"""Where rollouts are published, and which there are."""

import re
from collections.abc import Iterator

from canary_pipeline.outside.object_store import ObjectStore

_MOMENT = re.compile(r"-([0-9]{8}T[0-9]{6}Z)\Z")

PAGE = 100
"""Names that are told at once."""


def rollout_prefix(environment: str, name: str) -> str:
    """Where a rollout is published, by its environment and the name of its folder."""
    return f"rollouts/{environment}/{name}"


def published_rollouts(store: ObjectStore, environment: str) -> Iterator[list[str]]:
    """The names of an environment's rollouts in pages, the last name first.

    Raises:
        StoreUnreachableError: When the store does not answer.
    """
    names = store.folders(rollout_prefix(environment, "").rstrip("/"))[::-1]
    yield from (names[start : start + PAGE] for start in range(0, len(names), PAGE))


def opened_at(name: str) -> str:
    """When a rollout was opened, as the usual name of its folder ends; empty where it does not."""
    found = _MOMENT.search(name)
    return found[1] if found else ""


def newer_than(store: ObjectStore, environment: str, name: str) -> str | None:
    """The published rollout that was opened after one, by their usual names, or None.

    Raises:
        StoreUnreachableError: When the store does not answer.
    """
    usual = re.compile(f"{re.escape(environment)}-[0-9]{{8}}T[0-9]{{6}}Z")
    if not usual.fullmatch(name):
        return None
    pages = published_rollouts(store, environment)
    newest = next((other for page in pages for other in page if usual.fullmatch(other)), "")
    return newest if newest > name else None
