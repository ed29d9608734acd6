"""What a launch may choose, as the resource `rollout`."""

from contextlib import ExitStack

import dagster as dg
from pydantic import Field, PrivateAttr

from canary_pipeline.settings import LaunchConfig


class RolloutResource(dg.ConfigurableResource):  # type: ignore[type-arg] # dagster's own idiom
    """Launch config of one rollout.

    URLs, commands, paths and the token are not here on purpose: whoever can launch a run in a
    browser must not be able to send the token elsewhere or to choose what the host executes.
    """

    cohorts: list[int]
    cohort_soak_seconds: int
    skip_gates: bool

    _at_teardown: ExitStack = PrivateAttr(default_factory=ExitStack)

    def launch_config(self) -> LaunchConfig:
        """The choices of this launch."""
        return LaunchConfig(tuple(self.cohorts), self.cohort_soak_seconds, self.skip_gates)

    @property
    def at_teardown(self) -> ExitStack:
        """What ends with the run, where no executor of ours watches over it."""
        return self._at_teardown

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """End what was begun for this run."""
        self._at_teardown.close()


def rollout_resource(declared: tuple[int, ...], soak: int) -> RolloutResource:
    """The resource `rollout`, with defaults that a launch may override one by one.

    Args:
        declared: The cohorts that the graph has steps for.
        soak: Seconds.
    """

    # The defaults are the class's: those of an instance are lost as soon as one is overridden.
    class LaunchableRollout(RolloutResource):
        cohorts: list[int] = Field(
            default=list(declared),
            description="Percents of users in order: the declared cohorts, or some of them.",
        )
        cohort_soak_seconds: int = Field(
            default=soak,
            description="Seconds to wait after each probe that passed; 0 or more.",
        )
        skip_gates: bool = Field(
            default=False,
            description="Dry run: no gate runs, everything else does, and the decision is block.",
        )

    return LaunchableRollout()
