"""Where rollouts are published, and which there are."""

import re

from canary_pipeline.outside.object_store import ObjectStore

_MOMENT = re.compile(r"-([0-9]{8}T[0-9]{6}Z)\Z")


def rollout_prefix(environment: str, name: str) -> str:
    """Where a rollout is published, by its environment and the name of its folder."""
    return f"rollouts/{environment}/{name}"


def published_rollouts(store: ObjectStore, environment: str) -> list[str]:
    """The names of an environment's rollouts, in order.

    Raises:
        StoreUnreachableError: When the store does not answer.
    """
    return store.folders(rollout_prefix(environment, "").rstrip("/"))


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
    names = published_rollouts(store, environment)
    newest = max(filter(usual.fullmatch, names), default="")
    return newest if newest > name else None
