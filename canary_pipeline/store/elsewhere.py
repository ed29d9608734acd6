"""An environment as every host sees it: who holds it, what is owed there, and past rollouts."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from operator import itemgetter
from pathlib import Path

from pydantic import ValidationError

from canary_pipeline.model.environment import Environment
from canary_pipeline.model.record import Header
from canary_pipeline.outside import lease
from canary_pipeline.outside.claim import (
    READER,
    EnvironmentTakenError,
    killed_holder,
    lock_folder,
)
from canary_pipeline.outside.object_store import ObjectStore
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.sources import evidence_url
from canary_pipeline.store.journal import Owed
from canary_pipeline.store.layout import HEADER, IN_FLIGHT
from canary_pipeline.store.listing import opened_at, published_rollouts, rollout_prefix
from canary_pipeline.store.published import Published

AT_ONCE = 16
"""Requests, where there is one for each rollout of an environment."""


class Elsewhere:
    """What the evidence's URL shows of one environment, `name`; every method asks the store.

    Each of them raises `StoreUnreachableError`, and `LeaseUnreadableError` where it is about the
    lease.
    """

    def __init__(self, store: ObjectStore, environment: Environment) -> None:
        """Connect a store with the usual place of an environment's rollouts on this host."""
        self._store, self.name = store, environment.name
        self._root = Path(environment.output_root).absolute()

    def bring(self, name: str, folder: Path | None = None) -> Path | None:
        """Bring a rollout's folder up to what is published of it, unless somebody works in it.

        Args:
            name: The name of its folder.
            folder: Where it is here, if not in the usual place.

        Returns:
            The folder; None where nothing is published of it.

        Raises:
            OSError: When the folder cannot be written.
        """
        folder = folder or self._root / name
        prefix = rollout_prefix(self.name, name)
        if self._store.get(f"{prefix}/{HEADER}") is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(EnvironmentTakenError), lock_folder(folder, READER):
            published = Published(folder, self._store, prefix)
            if not (published.is_current() and not (folder / IN_FLIGHT).exists()):
                published.fetch()
        return folder

    def newest_names(self, most: int) -> list[str]:
        """The names of the rollouts that were opened last, and all that do not hold when."""
        names = published_rollouts(self._store, self.name)
        dated = sorted(filter(opened_at, names), key=opened_at, reverse=True)
        return [*dated[:most], *(name for name in names if not opened_at(name))]

    def headers(self) -> dict[str, Header | None]:
        """What is published as each rollout's header, by its name; None where it is none."""
        names = published_rollouts(self._store, self.name)
        keys = [f"{rollout_prefix(self.name, name)}/{HEADER}" for name in names]
        with ThreadPoolExecutor(AT_ONCE) as asking:
            found = dict(zip(names, asking.map(self._store.get, keys), strict=True))
        return {name: _header(stored.data) for name, stored in found.items() if stored}

    def holder(self) -> dict[str, str] | None:
        """What whoever holds the environment says of itself, or None where nobody does."""
        found = lease.read_lease(self._store, self.name)
        if found is None or found.lease.released:
            return None
        seconds = lease.age(self._store, found)
        if lease.may_be_taken(found.lease, seconds, killed_holder(self.name)):
            return None
        return lease.in_holder_words(found.lease, seconds)

    def owed(self) -> Owed | None:
        """What is left live by a rollout that is not at work any more, its folder brought here.

        Raises:
            OSError: When the folder cannot be written.
        """
        found = lease.read_lease(self._store, self.name)
        if found is None or found.lease.owed is None or self.holder() is not None:
            return None
        owed = Owed.model_validate(found.lease.owed)
        here = self.bring(owed.folder.name) or self._root / owed.folder.name
        return owed.model_copy(update={"folder": here})

    def request_stop(self, who: str) -> None:
        """Ask whoever holds the environment to stop.

        Raises:
            LeaseChangedError: When nobody holds it.
        """
        lease.request_stop(self._store, self.name, who)

    def release(self, token: int) -> None:
        """Free the environment of the holder with this token.

        Raises:
            LeaseChangedError: When another token holds it, or nobody.
        """
        lease.release(self._store, self.name, token)


def elsewhere(environment: Environment, variables: Mapping[str, str]) -> Elsewhere | None:
    """An environment as every host sees it, or None where only this one does.

    Raises:
        SettingError: When the URL is not accepted.
        StoreUnusableError: When the store cannot be used as it is configured.
        StoreUnreachableError: When it does not answer.
    """
    return next(iter(each_elsewhere([environment], variables)), None)


def each_elsewhere(
    environments: Iterable[Environment], variables: Mapping[str, str]
) -> list[Elsewhere]:
    """Those of some environments that every host sees; raises what `elsewhere` does.

    Each store is opened once, and not tried: who only reads may not be allowed to write.
    """
    opened = cache(partial(open_store, tries=False))
    urls = ((evidence_url(each, variables), each) for each in environments)
    return [Elsewhere(opened(url), each) for url, each in urls if url is not None]


def _header(data: bytes) -> Header | None:
    try:
        return Header.model_validate_json(data)
    except ValidationError:
        return None


def bring_newest(shared: Iterable[Elsewhere], most: int) -> None:
    """Bring here the newest rollouts of all these environments, by the moments in their names.

    One without a moment in its name may be the newest.

    Raises:
        OSError: When a folder cannot be written.
        StoreUnreachableError: When the store does not answer.
    """
    found = [(opened_at(name), name, each) for each in shared for name in each.newest_names(most)]
    dated = sorted((one for one in found if one[0]), key=itemgetter(0), reverse=True)
    for _, name, each in [*dated[:most], *(one for one in found if not one[0])]:
        each.bring(name)
