"""`canary-rollout status`: who rolls out, what is live, and what a dead rollout has left."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import click

from canary_pipeline.commands.dagster_home import end_dead_runs
from canary_pipeline.commands.exits import BadInputError, Exit, answers, exit_of_status
from canary_pipeline.commands.find import find_rollout
from canary_pipeline.commands.flags import (
    SECRETS,
    adopt,
    environment_flag,
    json_flag,
    refuse_unusable,
    settings_flags,
)
from canary_pipeline.commands.run import apart_from_json
from canary_pipeline.commands.standing import print_decision, tell_rollout
from canary_pipeline.environment_file import VARIABLE
from canary_pipeline.environments import DEMO, chosen, served
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.rows import LiveRouting
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.claim import FOLDER_LOCK, current_holder, holder_of, in_words
from canary_pipeline.planning import Settings, resolve
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.rollout.live.routing import look
from canary_pipeline.settings import SettingError
from canary_pipeline.sources import PROBING
from canary_pipeline.store.elsewhere import Elsewhere, bring_newest, elsewhere
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.journal import Journal
from canary_pipeline.store.rollouts import newest_first

NOT_KNOWN = f"not known here ({VARIABLE} names the file of environments)"


class _Told(NamedTuple):
    """What a report comes to.

    Attributes:
        left_live: Whether a cohort is left live.
        unusable: Whether settings or the rollout cannot be used, so that not all could be told.
    """

    left_live: bool
    unusable: bool


def tell_all(environments: Iterable[Environment], variables: Mapping[str, str]) -> Exit:
    """Print how each environment stands; one that cannot be told of hides none of the others.

    Args:
        environments: The environments.
        variables: The environment variables.

    Returns:
        That of a cohort which is left live anywhere; else of what cannot be used.
    """
    every = []
    for environment in environments:
        settings = _settings(environment, variables)
        shared = elsewhere(environment, os.environ)
        every.append(_tell(_newest(environment, shared), settings, environment, shared))
        print()
    return exit_of_status(
        left_live=any(told.left_live for told in every),
        unusable=any(told.unusable for told in every),
    )


def _settings(
    environment: Environment,
    variables: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
) -> Settings | SettingError:
    """Where to ask what is live, or why that cannot be asked; what is owed is known without."""
    try:
        return resolve(environment, variables, flags, names=PROBING)
    except SettingError as error:
        return error


def tell(
    evidence: Evidence | None,
    settings: Settings | SettingError,
    environment: Environment,
    *,
    as_json: bool = False,
) -> Exit:
    """Print how the environment stands, and the steps of one rollout.

    Args:
        evidence: The rollout; None for the newest one.
        settings: Where to ask what is live, or why that cannot be asked.
        environment: What is rolled out to.
        as_json: Whether to print `decision.json`, and all else to standard error.

    Returns:
        That of a decision which was to be printed and is none; else of a cohort that is left live;
        else of what cannot be used.
    """
    shared = elsewhere(environment, os.environ)
    evidence = evidence or _newest(environment, shared)
    with apart_from_json(as_json):
        told = _tell(evidence, settings, environment, shared)
    undecided = as_json and not print_decision(evidence)
    return exit_of_status(left_live=told.left_live, unusable=told.unusable, undecided=undecided)


def tell_apart(evidence: Evidence, *, as_json: bool = False) -> Exit:
    """Print the steps of a rollout to an environment that is not at hand, and of no other.

    Args:
        evidence: The rollout.
        as_json: As for `tell`.

    Returns:
        That of a decision which was to be printed and is none; else of settings that are missing,
        unless it is a demo.
    """
    name = evidence.header().environment
    is_demo = name == DEMO.name
    why = "rolled out to a local stand-in" if is_demo else NOT_KNOWN
    with apart_from_json(as_json):
        print(one_line(f"{name}: {why}, so nothing is told of what is live"))
        tell_rollout(evidence, holder_of(evidence.folder / FOLDER_LOCK))
    undecided = as_json and not print_decision(evidence)
    return exit_of_status(left_live=False, unusable=not is_demo, undecided=undecided)


def _tell(
    evidence: Evidence | None,
    settings: Settings | SettingError,
    environment: Environment,
    shared: Elsewhere | None,
) -> _Told:
    """Print it all."""
    end_dead_runs(environment)
    holder = shared.holder() if shared else current_holder(environment.name)
    busy = f"a rollout is under way ({in_words(holder)})" if holder else "no rollout"
    print(f"{environment.name}: {busy}")
    live = _live(settings)
    print(f"live: {live}")
    readable = tell_rollout(evidence, holder)
    unusable = isinstance(settings, SettingError) or not readable
    left = left_live(environment)
    if left is None:
        return _Told(left_live=False, unusable=unusable)
    since = ""
    if isinstance(live, LiveRouting) and live.user_percent != left.percent:
        since = f"; somebody has set {live.user_percent} % since"
    print(f"ATTENTION: {left}{since}; to restore what was:\n{left.commands}")
    return _Told(left_live=True, unusable=unusable)


def _live(settings: Settings | SettingError) -> LiveRouting | str:
    if isinstance(settings, SettingError):
        return f"unknown ({settings})"
    plan, redactor = settings.plan, settings.redactor
    if not plan.probes_are_live:
        return f"unknown ({', '.join(plan.missing_for_probe)} not configured)"
    found = look(Context(plan, Evidence(Path.cwd(), redactor), settings.control, 1, ""))
    return f"unknown ({redactor.text(found)})" if isinstance(found, str) else found


def _newest(environment: Environment, shared: Elsewhere | None) -> Evidence | None:
    newest = Journal(environment.name).read().newest if shared is None else None
    if shared is not None:
        bring_newest([shared], 1)
    if newest is not None and newest.is_dir():
        return Evidence(newest)
    root = Path(environment.output_root)
    found = newest_first(root, {environment.name}) if root.is_dir() else []
    return found[0] if found else None


def _environment_of(name: str | None, evidence: Evidence) -> Environment | None:
    """The environment that a rollout is of; None where that is none of those at hand.

    Raises:
        SettingError: When there is none of the name that is given.
        BadInputError: When the rollout is of another one.
        NotARolloutError: When nobody can say which of several it is of.
    """
    at_hand = served(os.environ).rolled_out_to
    named = None if name is None else chosen(name, os.environ, "--environment")
    try:
        own = evidence.header().environment
    except NotARolloutError:
        if named is None and len(at_hand) > 1:
            raise
        return named or at_hand[0]
    if named is not None and named.name != own:
        raise BadInputError(f"{evidence.folder} is a rollout of {own}, not of {named.name}")
    return next((each for each in at_hand if each.name == own), None)


@click.command()
@click.argument("rollout", metavar="[FOLDER|NAME|RUN_ID]", required=False)
@json_flag
@environment_flag
@settings_flags(*SECRETS)
def status_command(
    rollout: str | None,
    as_json: bool,  # noqa: FBT001 - click's
    environment: str | None,
    **flags: str | None,
) -> None:
    """Tell what is live in staging, how a rollout stands, and what a dead one has left.

    Of several environments it tells of all, one after another, unless one is named. Of a demo, and
    of a rollout to an environment that is not known here, it tells the steps alone.
    Exit code 1 says that a rollout which is not at work any more has left a cohort live; 2, where
    none has, that settings or a rollout cannot be used, so that not all could be told.
    """
    with answers():
        refuse_unusable(flags)
        evidence = None if rollout is None else find_rollout(rollout)
        every = served(os.environ).parts
        asked = as_json or any(said is not None for said in (rollout, environment, *flags.values()))
        if every and not asked:
            sys.exit(tell_all(every, os.environ))
        if evidence is None:
            there = chosen(environment, os.environ, "--environment")
        elif (known := _environment_of(environment, evidence)) is not None:
            there = known
        else:
            sys.exit(tell_apart(evidence, as_json=as_json))
        settings = _settings(there, os.environ, flags)
        adopt(flags, there)
        sys.exit(tell(evidence, settings, there, as_json=as_json))
