"""What the README says is what there is."""

import re
import shlex
from pathlib import Path

import click
import pytest

from canary_pipeline.commands.main import main
from canary_pipeline.environments import STAGING
from canary_pipeline.settings import settings_table, variable_of
from canary_pipeline.sources import declared

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def row(name: str) -> str:
    """The line of the README's table that tells of a setting."""
    setting, value = settings_table(STAGING)[name], getattr(declared(STAGING, {}), name)
    default = {None: "", False: "false"}.get(value, value)
    if isinstance(value, tuple):
        default = ",".join(map(str, value))
    sources = (setting.flag, variable_of(STAGING, name), setting.launch_key)
    cells = (setting.help.removesuffix("."), *(f"`{each}`" if each else "" for each in sources))
    return " ".join(f"| `{name}` | {' | '.join(cells)} | {default} |".split())


@pytest.mark.parametrize("name", settings_table(STAGING))
def test_the_settings_table_tells_of_every_setting(name: str) -> None:
    assert row(name) in README.splitlines()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE) if anchor else []
        known = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        assert anchor == "" or anchor in known


COMMANDS = [
    line for line in README.splitlines() if re.match(r"(\.venv/bin/)?canary-rollout ", line)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_has_the_flags_that_it_is_given(line: str) -> None:
    _, name, *rest = shlex.split(line, comments=True)
    command = main.get_command(click.Context(main), name)
    known = {flag for parameter in command.params for flag in parameter.opts} if command else set()

    assert command
    assert {word for word in rest if word.startswith("--")} <= known
