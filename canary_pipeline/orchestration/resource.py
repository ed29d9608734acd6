"""What a launch may choose, as the resource `rollout`."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import click
import dagster as dg
from pydantic import PrivateAttr

from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.planning import LaunchConfig, check_launch
from canary_pipeline.settings import SettingError


class RolloutResource(dg.ConfigurableResource):  # type: ignore[type-arg] # dagster's own idiom
    """Launch config of one rollout.

    URLs, commands, paths and the token are not here on purpose: whoever can launch a run in a
    browser must not be able to send the token elsewhere or to choose what the host executes.
    """

    cohorts: list[int] | None = None
    cohort_soak_seconds: int | None = None
    skip_gates: bool

    _at_teardown: ExitStack = PrivateAttr(default_factory=ExitStack)

    def launch_config(self) -> LaunchConfig:
        """The choices of this launch."""
        cohorts = None if self.cohorts is None else tuple(self.cohorts)
        return LaunchConfig(cohorts, self.cohort_soak_seconds, self.skip_gates)

    @property
    def at_teardown(self) -> ExitStack:
        """What ends with the run, where no executor of ours watches over it."""
        return self._at_teardown

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """End what was begun for this run."""
        self._at_teardown.close()


# Dagster hands its own errors on as they are, and click prints those of its kind as one line:
# a refused launch is a sentence in the browser and on a terminal, not a traceback.
class LaunchRefusedError(dg.DagsterError, click.ClickException):
    """A launch chose something that is not accepted; nothing has started."""


def rollout_resource(rollout: Rollout) -> dg.ResourceDefinition:
    """The resource `rollout`: its config has defaults, and is checked before a run starts.

    Args:
        rollout: What the definitions are built from.
    """

    def accepted(config: Mapping[str, Any]) -> Mapping[str, Any]:
        launch = RolloutResource(**config).launch_config()
        try:
            check_launch(rollout.environment, launch, rollout.cohorts)
        except SettingError as error:
            raise LaunchRefusedError(str(error)) from None
        return config

    resource = RolloutResource.configure_at_launch().get_resource_definition()
    checked: dg.ResourceDefinition = dg.configured(resource, _config_schema(rollout))(accepted)
    return checked


def _config_schema(rollout: Rollout) -> dict[str, dg.Field]:
    declared = ", ".join(map(str, rollout.cohorts))
    each_its_own = bool(rollout.environment.parts)
    return {
        "cohorts": _choice(
            [int],
            f"Percents of users, in order: {declared}, or some of them.",
            default=None if each_its_own else list(rollout.cohorts),
        ),
        "cohort_soak_seconds": _choice(
            int,
            "Seconds to wait after each probe that passed; 0 does not wait.",
            default=None if each_its_own else rollout.soak_seconds,
        ),
        "skip_gates": _choice(
            bool,
            "A dry run: no gate runs, all else does, and the decision is `block`.",
            default=False,
        ),
    }


def _choice(kind: Any, description: str, *, default: object) -> dg.Field:
    if default is None:
        return dg.Field(kind, is_required=False, description=description)
    return dg.Field(kind, default_value=default, is_required=False, description=description)
