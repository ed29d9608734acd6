"""An empty argument is a mistake, such as a variable that is not set, and is refused as one."""

import pytest

from canary_pipeline_tests.conftest import CORE, Commands

NO_ROLLOUT = "'' is neither a rollout's folder nor the run id of one\n"
NO_ENVIRONMENT = "--environment is ''; accepted: staging ("


@pytest.fixture
def with_a_rollout(commands: Commands) -> Commands:
    """Commands that would find a rollout if they took what is empty for what is not given."""
    assert commands.rollout("--cohorts", "5").code == 0
    return commands


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("status", ""), NO_ROLLOUT),
        (("status", "--json", ""), NO_ROLLOUT),
        (("resume", ""), NO_ROLLOUT),
        (("rollback", ""), NO_ROLLOUT),
        (("status", "--environment", ""), NO_ENVIRONMENT),
        (("history", "--environment", ""), NO_ENVIRONMENT),
        (("history", "--limits", "--environment", ""), NO_ENVIRONMENT),
        (("status", "--control-base-url", ""), "--control-base-url is empty; accepted: "),
        (("status", "--auth-token", ""), "--auth-token is empty; accepted: "),
        (("status", "--control-status-url", ""), "--control-status-url is empty; accepted: "),
        (("prune", ""), "ROOT is empty: accepted is a folder\n"),
    ],
)
def test_an_empty_argument_is_bad_input(
    words: tuple[str, ...], says: str, with_a_rollout: Commands
) -> None:
    result = with_a_rollout.run(*CORE, *words)

    assert (result.code, result.out) == (2, ""), result
    assert result.err.startswith(f"canary-rollout: {says}")


def test_an_empty_argument_is_bad_input_of_several_environments_too(
    with_a_rollout: Commands,
) -> None:
    file = with_a_rollout.folder / "canary.toml"
    file.write_text(
        'name = "staging"\ntitle = "Rollouts"\n[gates]\none = "true"\n'
        "[environments.staging]\n[environments.staging-eu]\n"
    )
    several = {"OA_CANARY_ENVIRONMENTS": str(file)}

    for words in (("--environment", ""), ("",), ("--control-base-url", "")):
        result = with_a_rollout.run(*CORE, "status", *words, more=several)
        assert (result.code, result.out) == (2, ""), words
