"""What the README says is what there is."""

import re
import shlex
from pathlib import Path

import pytest

from canary_pipeline.environments import STAGING
from canary_pipeline.settings import settings_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", settings_table(STAGING))
def test_the_settings_table_names_every_flag_and_variable(name: str) -> None:
    setting = settings_table(STAGING)[name]
    rows = [line for line in README.splitlines() if line.startswith("| ")]
    told = [line for line in rows if f"`{setting.variable or setting.flag}`" in line]

    assert told
    assert setting.flag is None or any(f"`{setting.flag}`" in line for line in told)
    assert setting.launch_key is None or any(f"`{setting.launch_key}`" in line for line in told)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_every_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_commands_of_the_readme_use_flags_that_exist() -> None:
    known = {setting.flag for setting in settings_table(STAGING).values()}
    known |= {"--skip-gates", "--fault", "--picture"}
    lines = [
        line for line in README.splitlines() if re.match(r"(\.venv/bin/)?canary-rollout ", line)
    ]

    used = [word for line in lines for word in shlex.split(line, comments=True) if word[:2] == "--"]

    assert lines
    assert set(used) <= known
