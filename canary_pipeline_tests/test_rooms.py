"""The rooms of the house: who may import whom, and where Dagster's private names are."""

import ast
import importlib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import canary_pipeline

PACKAGE = Path(canary_pipeline.__file__).parent

ROOMS = (
    ("model",),
    ("outside",),
    ("accepted", "settings", "sources", "planning", "environment_file", "environments"),
    ("store",),
    ("reports",),
    ("rollout",),
    ("orchestration",),
    ("local_staging",),
    ("commands", "definitions"),
)
"""From the bottom up. The stand-in imports nothing but itself."""

PURE = {
    "collections", "dataclasses", "datetime", "difflib", "enum", "functools", "hashlib",
    "itertools", "json", "math", "pydantic", "re", "statistics", "typing", "unicodedata",
    "urllib.parse",
}  # fmt: skip
"""What the model may import from elsewhere: nothing that knows of time, files or processes."""

IMPURE_CALLS = {"now", "today", "utcnow", "open", "print", "input", "read_text", "write_text"}

MOST_IMPORTS_IN_FUNCTIONS = 16
"""Each hides what a module needs, and is only for what is slow to import: may this only fall."""

PRIVATE = {
    "dagster._core.execution.api": {"ExecuteRunWithPlanIterable": "__init__"},
    "dagster._core.execution.context.system": {
        "PlanExecutionContext": "for_step",
        "PlanOrchestrationContext": (
            "dagster_run execution_plan instance job output_capture run_config"
        ),
        "StepExecutionContext": "step",
    },
    "dagster._core.execution.context_creation_job": {"PlanExecutionContextManager": "__init__"},
    "dagster._core.execution.plan.active": {
        "ActiveExecution": (
            "get_known_state get_steps_to_execute handle_event is_complete mark_success "
            "plan_events_iterator verify_complete"
        ),
    },
    "dagster._core.execution.plan.execute_plan": {"dagster_event_sequence_for_step": "__call__"},
    "dagster._core.execution.plan.plan": {"ExecutionPlan": "start"},
    "dagster._core.execution.retries": {"RetryMode": "DISABLED"},
    "dagster._core.run_coordinator": {
        "QueuedRunCoordinator": "submit_run",
        "SubmitRunContext": "dagster_run",
    },
}
"""By module, what the engine takes of Dagster that it does not promise to keep, and of each what
it uses. An upgrade that moves one fails here, with its name."""


def modules() -> dict[str, ast.Module]:
    """Every module of the product by its name below the package."""
    found = {file: file.relative_to(PACKAGE).with_suffix("") for file in PACKAGE.rglob("*.py")}
    return {
        ".".join(path.parts).removesuffix(".__init__"): ast.parse(file.read_text())
        for file, path in found.items()
        if path.name != "__init__" or path.parent.name  # the package itself only opens the door
    }


MODULES = modules()


def imported(tree: ast.AST) -> Iterator[str]:
    """What a module imports, in functions too; names of the product are those of `MODULES`."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _own(name) in MODULES else str(node.module) for name in inside]
        yield from map(_own, names)


def _own(name: str) -> str:
    return name.removeprefix("canary_pipeline.")


IMPORTS = {
    name: {one for one in imported(tree) if one in MODULES} for name, tree in MODULES.items()
}
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def level(module: str) -> int:
    return LEVEL[module.partition(".")[0]]


def test_imports_go_down_only() -> None:
    upward = {
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if level(other) > level(name)
    }

    assert upward == set()
    assert {name for name in MODULES if name.partition(".")[0] not in LEVEL} == set()


def test_the_stand_in_knows_nothing_of_the_product_and_only_commands_know_it() -> None:
    across = {
        (name, other)
        for name, others in IMPORTS.items()
        for other in others
        if name.startswith("local_staging") != other.startswith("local_staging")
    }

    assert {name.partition(".")[0] for name, _ in across} == {"commands"}


def test_no_module_imports_itself_by_way_of_others_and_no_two_rooms_each_other() -> None:
    TopologicalSorter(IMPORTS).prepare()  # raises a CycleError that names them
    rooms: dict[str, set[str]] = {}
    for name, others in IMPORTS.items():
        room = name.partition(".")[0]
        rooms.setdefault(room, set()).update({one.partition(".")[0] for one in others} - {room})
    TopologicalSorter(rooms).prepare()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("model")])
def test_the_model_is_pure(name: str) -> None:
    foreign = {one for one in imported(MODULES[name]) if one not in MODULES}
    calls = {
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.Call)
    }

    assert {one for one in foreign if not {one, one.partition(".")[0]} & PURE} == set()
    assert calls & IMPURE_CALLS == set()


def test_imports_in_functions_are_few() -> None:
    inside = {
        f"{name}:{node.lineno}"
        for name, tree in MODULES.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }

    assert len(inside) <= MOST_IMPORTS_IN_FUNCTIONS, sorted(inside)


def test_exit_codes_are_chosen_in_one_file() -> None:
    choosing = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Exit"
    }

    assert choosing == {"commands.exits"}


def test_private_names_of_dagster_are_in_the_engine_only() -> None:
    taken = {
        node.module: {alias.name for alias in node.names}
        for node in ast.walk(MODULES["orchestration.engine"])
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("dagster.")
    }
    others = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if "dagster._" in file.read_text() or "from dagster." in file.read_text()
    }

    assert taken == {module: set(names) for module, names in PRIVATE.items()}
    assert others == {"orchestration/engine.py"}


@pytest.mark.parametrize(
    ("module", "name", "members"),
    [(module, *item) for module, names in PRIVATE.items() for item in names.items()],
)
def test_what_the_engine_takes_of_dagster_is_still_there(
    module: str, name: str, members: str
) -> None:
    taken = getattr(importlib.import_module(module), name)

    lost = [one for one in members.split() if not hasattr(taken, one)]
    assert lost == [], f"{module}.{name} has no {lost} any more; see orchestration/engine.py"
