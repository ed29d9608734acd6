"""Where a rollout asks, with whatever secrets its URLs hold: never written down."""

import hmac
import secrets
from dataclasses import dataclass

from canary_pipeline.model.plan import SnapshotKind

URLS = ("control_base_url", "runtime_metrics_url", "control_status_url")


@dataclass(frozen=True)
class Endpoints:
    """The URLs of one staging. Each may be missing; none is ever launch config.

    Attributes:
        control_base_url: The control service, below which the probe's path lies.
        runtime_metrics_url: What the `runtime_metrics` snapshots read.
        control_status_url: What the `control_status` snapshots read.
    """

    control_base_url: str | None = None
    runtime_metrics_url: str | None = None
    control_status_url: str | None = None

    def snapshot_url(self, kind: SnapshotKind) -> str | None:
        """The URL that snapshots of this kind read, or None where none is configured."""
        return self.runtime_metrics_url if kind == "runtime_metrics" else self.control_status_url

    def digests(self) -> dict[str, str]:
        """By name, what tells later whether a URL is still the same, and nothing of its secrets."""
        urls = {name: getattr(self, name) for name in URLS}
        return {name: _digest(url, secrets.token_hex(8)) for name, url in urls.items() if url}

    def another_than(self, digests: dict[str, str]) -> list[str]:
        """The names of the URLs that are not those of which these are the digests."""
        return [
            name
            for name, known in digests.items()
            if known != _digest(getattr(self, name) or "", known.partition(":")[0])
        ]


def _digest(url: str, salt: str) -> str:
    return f"{salt}:{hmac.digest(salt.encode(), url.encode(), 'sha256').hex()}"
