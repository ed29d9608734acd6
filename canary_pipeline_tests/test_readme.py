"""What the README says is what there is."""

import re
import shlex
from pathlib import Path

import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.settings import settings_table
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
    sources = (setting.flag, setting.variable, setting.launch_key)
    cells = (setting.help.removesuffix("."), *(f"`{each}`" if each else "" for each in sources))
    return " ".join(f"| `{name}` | {' | '.join(cells)} | {default} |".split())


@pytest.mark.parametrize("name", settings_table(STAGING))
def test_the_settings_table_tells_of_every_setting(name: str) -> None:
    assert row(name) in README.splitlines()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_every_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_commands_of_the_readme_use_flags_that_exist() -> None:
    known = {setting.flag for setting in settings_table(STAGING).values()}
    known |= {"--environment", "--fault", "--limits", "--picture"}
    known |= {"--keep", "--keep-last", "--dry-run"}
    lines = [
        line for line in README.splitlines() if re.match(r"(\.venv/bin/)?canary-rollout ", line)
    ]

    used = [word for line in lines for word in shlex.split(line, comments=True) if word[:2] == "--"]

    assert lines
    assert set(used) <= known
