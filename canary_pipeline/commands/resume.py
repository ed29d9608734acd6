"""`canary-rollout resume`: go on with a rollout, where it stopped."""

import os
import sys

import click

from canary_pipeline.commands import run
from canary_pipeline.commands.exits import Exit, answers
from canary_pipeline.commands.find import find_rollout
from canary_pipeline.commands.flags import (
    SECRETS,
    adopt,
    environment_flag,
    environment_of,
    settings_flags,
)
from canary_pipeline.commands.run import Engine, followed, holding, notify, worked_in
from canary_pipeline.model.environment import Environment
from canary_pipeline.planning import LaunchConfig, Settings, resolve
from canary_pipeline.rollout.attempts import MENDABLE, recorded_plan
from canary_pipeline.rollout.superseded import refuse_superseded
from canary_pipeline.store.folder import Evidence


@click.command()
@click.argument("rollout", metavar="FOLDER|NAME|RUN_ID")
@click.option("--superseded", is_flag=True, help="Go on although a newer rollout has begun.")
@environment_flag
@settings_flags(*SECRETS, *MENDABLE)
def resume_command(
    rollout: str,
    superseded: bool,  # noqa: FBT001 - click's
    environment: str | None,
    **flags: str | None,
) -> None:
    """Go on with a rollout that was killed, aborted or blocked, where it stopped."""
    with answers():
        evidence = find_rollout(rollout)
        launch = LaunchConfig(skip_gates=evidence.header().skip_gates)
        there = environment_of(environment, evidence)
        settings = resolve(there, os.environ, flags, launch)
        adopt(flags, there)
        code = go_on(evidence, settings, there, run.ENGINE, superseded=superseded)
        sys.exit(code)


def go_on(
    evidence: Evidence,
    settings: Settings,
    environment: Environment,
    engine: Engine,
    *,
    superseded: bool = False,
) -> Exit:
    """Continue a rollout that was killed, aborted or blocked, and follow it to its decision.

    Args:
        evidence: The rollout's folder.
        settings: The settings at hand.
        environment: What is rolled out to.
        engine: What runs the steps.
        superseded: Whether to go on although a newer rollout speaks for the environment.
    """
    recorded_plan(evidence.header(), settings)
    engine.prepare()
    with holding(settings, environment, "canary-rollout") as (held, signals):
        evidence = worked_in(evidence, held)
        if not superseded:
            refuse_superseded(evidence, environment.name)
        print(f"rollout folder: {evidence.folder}", flush=True)
        code = followed(evidence, settings, environment, engine, signals)
    notify(settings, environment)
    return code
