"""What git says of a checkout, whatever surrounds it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from canary_pipeline.outside.git import Checkout, checkout_state


@dataclass
class Repository:
    folder: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), "-c", "user.name=a", "-c", "user.email=a@b"]
        answer = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
        return answer.stdout.strip()

    def commit(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-m", text)
        return self.git("rev-parse", "HEAD")

    @classmethod
    def make(cls, folder: Path) -> "Repository":
        folder.mkdir()
        made = cls(folder)
        made.git("init")
        return made


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "check out")


def test_a_commit_and_whether_anything_differs_from_it(repository: Repository) -> None:
    folder = repository.folder
    assert checkout_state(folder).problem == "the checkout has no commit yet"
    commit = repository.commit(".gitignore", "ignored\n")

    assert checkout_state(folder) == Checkout(commit, dirty=False)
    (folder / "ignored").touch()
    assert checkout_state(folder) == Checkout(commit, dirty=False)
    (folder / "gates").mkdir()
    (folder / "gates/new.sh").touch()
    assert checkout_state(folder) == Checkout(commit, dirty=True)
    (folder.parent / "link").symlink_to(folder / "gates")
    assert checkout_state(folder.parent / "link") == Checkout(commit, dirty=True)
    assert checkout_state(folder / "gone") == Checkout()
    repository.git("add", "-A")
    assert checkout_state(folder) == Checkout(commit, dirty=True)
    repository.git("config", "status.showUntrackedFiles", "no")
    repository.git("reset")
    assert checkout_state(folder) == Checkout(commit, dirty=True)


def test_the_evidence_of_rollouts_is_no_change(repository: Repository) -> None:
    commit, folder = repository.commit("file", "one"), repository.folder
    evidence = folder / "output/canary"
    evidence.mkdir(parents=True)
    (evidence / "SUMMARY.md").touch()

    assert checkout_state(folder) == Checkout(commit, dirty=True)
    assert checkout_state(folder, evidence) == Checkout(commit, dirty=False)
    assert checkout_state(folder / "output", evidence) == Checkout(commit, dirty=False)
    assert checkout_state(folder, folder.parent / "elsewhere") == Checkout(commit, dirty=True)
    (folder / "output/other").touch()
    assert checkout_state(folder, evidence) == Checkout(commit, dirty=True)


@pytest.mark.parametrize("name", [".", "gone", "a file"])
def test_a_folder_that_is_no_checkout_is_no_problem(name: str, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()

    assert checkout_state(tmp_path / name) == Checkout()


def test_a_hooks_environment_does_not_name_another_repository(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit("file", "this one")
    other = Repository.make(tmp_path / "other")
    other.commit("file", "another")
    names = repository.git("rev-parse", "--local-env-vars").split()
    for name in names:
        if not name.startswith("GIT_CONFIG_"):
            monkeypatch.setenv(name, str(other.folder / ".git"))

    assert checkout_state(repository.folder) == Checkout(commit, dirty=False)


def test_a_checkout_that_belongs_to_somebody_else_says_so(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("file", "one")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own, for such tests

    found = checkout_state(repository.folder)

    assert (found.commit, found.dirty) == (None, None)
    assert (found.problem or "").startswith("fatal: detected dubious ownership in repository at")


def test_a_worktree_whose_repository_is_gone_says_so(
    repository: Repository, tmp_path: Path
) -> None:
    repository.commit("file", "one")
    repository.git("worktree", "add", str(tmp_path / "tree"))
    shutil.rmtree(repository.folder)

    assert (checkout_state(tmp_path / "tree").problem or "").startswith("fatal: not a git repos")


def test_a_git_that_is_slow_or_missing_says_so(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("file", "one")
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin/git"
    slow.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(300)\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(slow.parent), prepend=os.pathsep)

    found = checkout_state(repository.folder, timeout_seconds=0.3)

    assert found == Checkout(problem="git did not answer within 0.3 s")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = checkout_state(repository.folder)
    assert found == Checkout(problem="git cannot be run: No such file or directory")
