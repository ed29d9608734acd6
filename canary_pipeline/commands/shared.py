"""Commands where hosts share an environment: find a rollout of any host, stop one, free a lease."""

import getpass
import os
import socket
from pathlib import Path

import click

from canary_pipeline.commands.exits import BadInputError, answers
from canary_pipeline.environments import chosen, served
from canary_pipeline.model.environment import Environment
from canary_pipeline.outside.claim import current_holder, in_words
from canary_pipeline.reports.newest import bring_last
from canary_pipeline.reports.verification import Demands
from canary_pipeline.store.elsewhere import Elsewhere, each_elsewhere, elsewhere
from canary_pipeline.store.layout import HEADER


def brought(name: str) -> Path | None:
    """The folder of a rollout of any host, brought up to what is published; None on one machine.

    Args:
        name: The name of its folder, `ENVIRONMENT/NAME`, or a folder of this host.
    """
    folder = Path(name).absolute()
    there = folder if (folder / HEADER).exists() else None
    first, _, rest = name.partition("/")
    every = each_elsewhere(served(os.environ).rolled_out_to, os.environ)
    for shared in every:
        found = shared.bring(rest if first == shared.name and rest else folder.name, there)
        if found is not None:
            return found
    return there if every else None


def bring_decisions(root: Path, demands: Demands) -> None:
    """Bring below a root the newest decisions of other hosts that are asked for.

    Raises:
        StoreUnreachableError: When nobody can say whether there are any.
    """
    asked_for = (each for each in served(os.environ).rolled_out_to if demands.ask_for(each.name))
    for shared in each_elsewhere(asked_for, os.environ):
        bring_last(shared, root, demands.commit)


def stop(environment: Environment) -> None:
    """Ask the rollout that holds an environment, on whatever host, to stop.

    Raises:
        BadInputError: When hosts do not share the environment: a signal is all it takes here.
        LeaseChangedError: When no rollout is under way, or its process is silent.
    """
    shared = elsewhere(environment, os.environ)
    if shared is None:
        holder = current_holder(environment.name)
        if holder is None:
            message = f"no rollout of {environment.name} is under way on this host"
        else:
            message = (
                f"a rollout of {environment.name} is under way on this host ({in_words(holder)}): "
                f"`kill {holder.get('pid', 'PID')}` stops it, and it ends with its summary"
            )
        raise BadInputError(message)
    shared.request_stop(f"{getpass.getuser()}@{socket.gethostname()}")
    holder = shared.holder()
    if holder is None:
        print("asked to stop; it has ended meanwhile")
    else:
        print(f"asked to stop, seen within 20 s: {in_words(holder)}")


def release(environment: Environment, token: int) -> None:
    """Free an environment whose holder is known to be dead, or must not go on.

    Raises:
        BadInputError: When hosts do not share the environment.
        LeaseChangedError: When another token holds it, or nobody.
    """
    shared: Elsewhere | None = elsewhere(environment, os.environ)
    if shared is None:
        message = "on one machine a claim ends with its process: there is nothing to release"
        raise BadInputError(message)
    shared.release(token)
    print(f"{environment.name} is free; what claim {token} has left live is told by `status`")


@click.command()
@click.argument("environment", required=False)
def stop_command(environment: str | None) -> None:
    """Ask the rollout of ENVIRONMENT, on whatever host, to stop: it ends with its summary.

    The request is seen within 20 seconds. It needs OA_CANARY_EVIDENCE_URL; on one machine a signal
    is all it takes, and the command says to which process.
    """
    with answers():
        stop(chosen(environment, os.environ, "ENVIRONMENT"))


@click.command()
@click.argument("environment")
@click.option("--token", type=click.IntRange(min=1), required=True, help="As `status` shows it.")
def release_command(environment: str, token: int) -> None:
    """Free ENVIRONMENT from a holder that is dead, rather than wait for two minutes.

    A holder that lives loses the environment, stops, and rolls nothing back.
    """
    with answers():
        release(chosen(environment, os.environ, "ENVIRONMENT"), token)
