"""How long it takes until there is something: imports, and the command's help."""

from pathlib import Path

from benchmarks.world import PROGRAMS, World

DAGSTER = "import dagster"
DEFINITIONS = "import canary_pipeline.definitions"
HELP = "canary-rollout --help"

_COMMANDS: dict[str, tuple[str | Path, ...]] = {
    DAGSTER: (PROGRAMS / "python", "-c", DAGSTER),
    DEFINITIONS: (PROGRAMS / "python", "-c", DEFINITIONS),
    HELP: (PROGRAMS / "canary-rollout", "--help"),
}


def measure_loading(world: World, rounds: int) -> dict[str, list[float]]:
    """Start each in a fresh interpreter, once a round; seconds of the whole process."""
    seconds: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for _ in range(rounds):
        for name, command in _COMMANDS.items():
            seconds[name].append(world.run(command, fresh_home=False).measured.seconds)
    return seconds
