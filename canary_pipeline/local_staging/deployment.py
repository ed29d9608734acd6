"""The platform that the stand-in runs on: takes new canary variables and restarts it with them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from canary_pipeline.local_staging.faults import FAULT_PERCENT
from canary_pipeline.local_staging.routing import RoutingSettings

LATE_SECONDS = 3


class DeploymentFailedError(Exception):
    """The variables stay what they are; the message says why."""


@dataclass
class Deployment:
    """Gives the service new variables.

    Attributes:
        fault: The way in which it misbehaves, or None.
        variables: What the service is to start again with, or None while it is to go on.
        begun: Is set once the service has stopped listening, to start again.
    """

    fault: str | None = None
    variables: Mapping[str, str] | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    _landing: asyncio.TimerHandle | None = None

    async def apply(self, variables: Mapping[str, str]) -> None:
        """Have the service start again with these variables; returns once that has begun.

        Raises:
            DeploymentFailedError: When the service goes on with those it has.
        """
        percent = RoutingSettings.read(variables).user_percent
        if self.fault == "apply-fails" and percent >= FAULT_PERCENT:
            message = f"settings from {FAULT_PERCENT} % on are refused (fault apply-fails)"
            raise DeploymentFailedError(message)
        if self.fault == "apply-does-nothing":
            return
        if self.fault == "apply-lands-late":
            self._land_late(variables)
            return
        self._land(variables)
        await self.begun.wait()

    def _land(self, variables: Mapping[str, str]) -> None:
        self.variables = variables

    def _land_late(self, variables: Mapping[str, str]) -> None:
        """Let these variables land later, in place of others that have not landed yet."""
        if self._landing is not None:
            self._landing.cancel()
        loop = asyncio.get_running_loop()
        self._landing = loop.call_later(LATE_SECONDS, self._land, variables)
