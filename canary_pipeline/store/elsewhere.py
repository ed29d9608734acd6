"""An environment as every host sees it: who holds it, what is owed there, and past rollouts."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from canary_pipeline.model.environment import Environment
from canary_pipeline.outside import lease
from canary_pipeline.outside.claim import EnvironmentTakenError, killed_holder, lock_folder
from canary_pipeline.outside.object_store import ObjectStore
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.sources import evidence_url
from canary_pipeline.store.journal import Owed
from canary_pipeline.store.layout import HEADER, IN_FLIGHT
from canary_pipeline.store.listing import published_rollouts, rollout_prefix
from canary_pipeline.store.published import Published


class Elsewhere:
    """What the evidence's URL shows of one environment; every method asks the store.

    Each of them raises `StoreUnreachableError`, and `LeaseUnreadableError` where it is about the
    lease.
    """

    def __init__(self, store: ObjectStore, environment: Environment) -> None:
        """Connect a store with the usual place of an environment's rollouts on this host."""
        self._store, self._name = store, environment.name
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
        prefix = rollout_prefix(self._name, name)
        if self._store.get(f"{prefix}/{HEADER}") is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(EnvironmentTakenError), lock_folder(folder, {"started by": "a reader"}):
            published = Published(folder, self._store, prefix)
            if not (published.is_current() and not (folder / IN_FLIGHT).exists()):
                published.fetch()
        return folder

    def bring_newest(self, most: int) -> None:
        """Bring here the rollouts whose names come last, which hold when they were opened.

        Raises:
            OSError: When a folder cannot be written.
        """
        names = (name for page in published_rollouts(self._store, self._name) for name in page)
        for name, _ in zip(names, range(most), strict=False):
            self.bring(name)

    def holder(self) -> dict[str, str] | None:
        """What whoever holds the environment says of itself, or None where nobody does."""
        found = lease.read_lease(self._store, self._name)
        if found is None or found.lease.released:
            return None
        seconds = lease.age(self._store, found)
        if lease.may_be_taken(found.lease, seconds, killed_holder(self._name)):
            return None
        return lease.in_holder_words(found.lease, seconds)

    def owed(self) -> Owed | None:
        """What is left live by a rollout that is not at work any more, its folder brought here.

        Raises:
            OSError: When the folder cannot be written.
        """
        found = lease.read_lease(self._store, self._name)
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
        lease.request_stop(self._store, self._name, who)

    def release(self, token: int) -> None:
        """Free the environment of the holder with this token.

        Raises:
            LeaseChangedError: When another token holds it, or nobody.
        """
        lease.release(self._store, self._name, token)


def elsewhere(environment: Environment, variables: Mapping[str, str]) -> Elsewhere | None:
    """An environment as every host sees it, or None where only this one does.

    Raises:
        SettingError: When the URL is not accepted.
        StoreUnusableError: When the store cannot be used as it is configured.
        StoreUnreachableError: When it does not answer.
    """
    url = evidence_url(environment, variables)
    return None if url is None else Elsewhere(open_store(url), environment)
