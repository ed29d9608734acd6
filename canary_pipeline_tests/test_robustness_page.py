"""What `docs/robustness.md` says is shown by a test is shown by one, in the tier that it names."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/robustness.md"

NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
CLOSING = re.compile(r"\| (quick|test|prove)(, (quick|test|prove))* \|$")

TIERS = {"prove": "prove", "slow": "test", "browser": "test"}
"""By marker, the first of `make quick`, `make test` and `make prove` that runs a test."""


@cache
def tiers_in(file: str) -> dict[str, str]:
    """The tier of each test of a file, by name; one with several cases has that of the first."""
    module = ast.parse((HERE / file).read_text())
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    everywhere = [
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    in_a_run = {"in_process"}  # conftest.py marks whatever takes a whole run of Dagster's as slow
    for function in functions:
        if "pytest.fixture" in map(ast.unparse, function.decorator_list) and in_a_run & given(
            function
        ):
            in_a_run.add(function.name)
    return {
        test.name: tier([*everywhere, *test.decorator_list], runs=bool(in_a_run & given(test)))
        for test in functions
    }


def given(function: ast.FunctionDef) -> set[str]:
    """The names of a function's arguments."""
    return {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}


def tier(marks: list[ast.expr], *, runs: bool) -> str:
    """The tier of a test with these markers; a mark of one case says nothing of the others."""
    said = [text for text in map(ast.unparse, marks) if "parametrize" not in text]
    found = [name for name in TIERS if any(f"pytest.mark.{name}" in text for text in said)]
    return TIERS[found[0]] if found else "test" if runs else "quick"


def rows() -> list[str]:
    """The rows of the page's tables, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.endswith(" | tier |") and "| --- |" not in line]


@pytest.mark.parametrize("row", rows())
def test_a_row_names_tests_that_exist_and_their_tier(row: str) -> None:
    tests = NAMED.findall(row)
    closing = CLOSING.search(row)

    assert tests
    assert closing, "its last cell is its tier"
    tiers = dict.fromkeys(tiers_in(file)[name] for file, name in tests)
    assert closing[0] == f"| {', '.join(tiers)} |"


def test_no_row_stands_there_twice() -> None:
    assert len(set(rows())) == len(rows())


def test_every_table_has_a_head_that_says_so() -> None:
    heads = [line for line in PAGE.read_text().splitlines() if line.startswith("| --- |")]

    assert len(heads) == PAGE.read_text().count(" | shown by | tier |\n")
