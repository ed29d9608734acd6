"""What a command of this process hands to the run that it executes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from canary_pipeline.outside.stop import Signals
from canary_pipeline.planning import Settings
from canary_pipeline.store.holding import Holding


@dataclass(frozen=True)
class Command:
    """A command that executes a run here, rather than having it launched.

    Attributes:
        folder: The rollout's folder, which the command has opened or goes on with.
        settings: What the command was told.
        signals: Takes note of signals from the command's first moment to its last.
        holding: What the command holds.
    """

    folder: Path | None = None
    settings: Settings | None = None
    signals: Signals = field(default_factory=Signals)
    holding: Holding | None = None


_commands: list[Command] = []


@contextmanager
def commanding(command: Command) -> Iterator[None]:
    """Hand a command to the run that the body executes."""
    _commands.append(command)
    try:
        yield
    finally:
        _commands.pop()


def commanded() -> Command | None:
    """The command that executes a run in this process, or None where none does."""
    return _commands[-1] if _commands else None
