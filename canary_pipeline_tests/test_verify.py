"""A decision is relied on only where all of it follows from its folder, as the promoter asks."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.outside.control_service import ControlService
from canary_pipeline.outside.endpoints import Endpoints
from canary_pipeline.reports.decided import write_decision
from canary_pipeline.reports.newest import verify_newest
from canary_pipeline.reports.statement import EXTENSION, json_schema
from canary_pipeline.reports.verification import Demands, check, verify
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.conftest import PROGRAMS
from canary_pipeline_tests.decided_folders import Rollouts
from canary_pipeline_tests.fake_staging import FakeStaging, answer
from canary_pipeline_tests.golden.scenarios import FOLDERS
from canary_pipeline_tests.rollout.conftest import FakeClock

DEFAULT_PLAN = ("--cohorts", "5,10,25,50,100")
DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollouts]:
    with FakeStaging.serving("token-that-must-stay-secret") as staging:
        yield Rollouts(tmp_path_factory.mktemp("world"), staging)


@pytest.fixture(scope="module")
def kept_allow(world: Rollouts) -> Path:
    return world.rollout("allow")


@pytest.fixture(scope="module")
def kept_block(world: Rollouts, kept_allow: Path) -> Path:  # noqa: ARG001 - it is to be older
    world.staging.probes[25] = answer(500, {"error": {"code": "internal"}})
    try:
        return world.rollout("block", code=1)
    finally:
        world.staging.probes.clear()


@pytest.fixture
def allow(kept_allow: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept_allow, tmp_path / "allow")


@pytest.fixture
def block(kept_block: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept_block, tmp_path / "block")


def now() -> datetime:
    return datetime.now(UTC)


def answered(folder: Path, **demands: Any) -> str:
    return verify(Evidence(folder), Demands(**demands), now()).answer


def details(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "decision.json").read_text())["predicate"]
    return found


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header, and write everything that follows from it anew, as the product does."""
    file = folder / "rollout.json"
    header = json.loads(file.read_text())
    change(header)
    file.write_text(json.dumps(header, indent=2) + "\n")
    evidence = Evidence(folder)
    write_decision(evidence, evidence.verified_record())


# -- what is written --------------------------------------------------------------------------


def test_the_statement_is_in_toto_about_the_commit_and_the_summary(
    world: Rollouts, allow: Path
) -> None:
    said = json.loads((allow / "decision.json").read_text())

    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    commit, summary = said["subject"]
    assert commit["digest"] == {"gitCommit": world.commit}
    assert summary == {
        "name": "SUMMARY.md",
        "digest": {"sha256": Evidence(allow).sha256("SUMMARY.md")},
    }
    predicate = said["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"][-3:] == ["cohort 5", "cohort 25", "cohort 100"]
    assert set(predicate[EXTENSION]["files"]) == {
        str(file.relative_to(allow))
        for file in allow.rglob("*")
        if file.is_file() and not file.name.startswith("decision.json")
    }


def test_a_block_says_why_and_what_failed(block: Path) -> None:
    said = details(block)

    assert said["result"] == "FAILED"
    assert said["failedTests"] == ["cohort 25"]
    assert said[EXTENSION]["reasons"][0] == {
        "text": "cohort 25 % failed: probe answered 500",
        "evidence": "cohort-25.json",
    }


def test_the_published_schema_is_that_of_the_model() -> None:
    published = (DOCS / "decision.schema.json").read_text()

    assert published == json_schema(), "write reports.statement.json_schema() there"


def test_the_decision_on_the_default_plan_is_small(world: Rollouts) -> None:
    folder = world.rollout("default", *DEFAULT_PLAN, more=world.more_snapshots)

    assert len(details(folder)[EXTENSION]["files"]) > 35
    assert (folder / "decision.json").stat().st_size <= 10_000


def test_an_uncommitted_change_leaves_no_commit_to_rely_on(world: Rollouts) -> None:
    added = world.checkout / "new.py"
    added.write_text("")
    try:
        folder = world.rollout("dirty")
    finally:
        added.unlink()

    assert [
        item["name"] for item in json.loads((folder / "decision.json").read_text())["subject"]
    ] == ["SUMMARY.md"]
    assert details(folder)[EXTENSION]["commits"] == [world.commit]
    assert answered(folder) == "allow"
    assert answered(folder, commit=world.commit) == "none"


def test_a_rollout_under_way_has_no_decision(allow: Path) -> None:
    file = allow / "rollout.json"
    header = json.loads(file.read_text())
    header["attempts"][0]["outcome"] = None
    file.write_text(json.dumps(header))
    evidence = Evidence(allow)
    write_decision(evidence, evidence.verified_record())

    assert not (allow / "decision.json").exists()
    [reason] = check(evidence).reasons
    assert reason == "decision.json is missing: attempt 1 is under way, or was killed"


# -- what is relied on ------------------------------------------------------------------------


def test_an_allow_and_a_block_are_believed_wherever_the_folder_is(allow: Path, block: Path) -> None:
    assert answered(allow) == "allow"
    assert answered(block) == "block"


@pytest.mark.parametrize("scenario", sorted(path.name for path in FOLDERS.iterdir()))
def test_what_an_older_version_decided_cannot_be_relied_on(scenario: str) -> None:
    found = check(Evidence(FOLDERS / scenario))

    assert found.answer == "none"
    assert found.reasons == (
        "decision.json is missing: nothing was decided, or by a version that wrote none",
    )


def test_an_unknown_schema_is_not_guessed_at(allow: Path) -> None:
    file = allow / "decision.json"
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 2'))

    assert check(Evidence(allow)).reasons == (
        "decision.json is not as this version knows it (schema 1)",
    )


OTHER = "0" * 40


@pytest.mark.parametrize(
    ("demands", "expected", "why"),
    [
        ({"commit": OTHER}, "none", "it is not on commit 000"),
        ({"max_age": timedelta(hours=1)}, "allow", ""),
        ({"max_age": timedelta(0)}, "none", "it is too old"),
        ({"cohorts": (5, 25, 100)}, "allow", ""),
        ({"cohorts": (5, 10, 25, 50, 100)}, "none", "nobody probed a cohort of 10, 50 %"),
        ({"soak_seconds": 0}, "allow", ""),
        ({"soak_seconds": 900}, "none", "its cohorts soaked 0 s"),
        ({"demo": True}, "none", "it is a rollout of staging"),
        ({"environment": "staging"}, "allow", ""),
        ({"environment": "staging-eu"}, "none", "it is a rollout of staging"),
    ],
)
def test_a_decision_must_meet_what_is_asked_of_it(
    demands: dict[str, Any], expected: str, why: str, allow: Path
) -> None:
    found = verify(Evidence(allow), Demands(**demands), now() + timedelta(seconds=2))

    assert found.answer == expected
    assert "".join(found.reasons).startswith(why)


def test_the_commit_that_was_tested_is_relied_on(world: Rollouts, allow: Path, block: Path) -> None:
    assert answered(allow, commit=world.commit) == "allow"
    assert answered(block, commit=world.commit) == "block"


def test_an_allow_does_not_get_younger_when_somebody_goes_on_with_it_and_nothing_runs(
    allow: Path,
) -> None:
    evidence, a_month_later = Evidence(allow), FakeClock(now() + timedelta(days=30))
    attempts.join(evidence, "run-2", "a test", a_month_later)
    asking = ControlService(Endpoints(None, None, None), None, 2)
    plan = evidence.header().plan
    conclude(Context(plan, evidence, asking, 2, "run-2", clock=a_month_later), "finished")

    def asked(max_age: timedelta | None) -> tuple[str, str]:
        found = verify(evidence, Demands(max_age=max_age), a_month_later.now())
        return found.answer, "".join(found.reasons)

    assert evidence.header().decided_at == rfc3339(a_month_later.now())
    assert asked(None) == asked(timedelta(days=31)) == ("allow", "")
    seen_at = evidence.record().cohort_rows[-1].soak_ended_at
    why = f"it is too old: its newest evidence is of {seen_at}"
    assert asked(timedelta(hours=24)) == ("none", why)


def test_a_decision_from_the_future_is_none(allow: Path) -> None:
    found = verify(Evidence(allow), Demands(), now() - timedelta(hours=1))

    assert "from the future" in found.reasons[0]


def test_cohorts_that_nobody_probed_count_neither_as_probed_nor_as_soaked(world: Rollouts) -> None:
    unset = {"OA_STAGING_CONTROL_BASE_URL": "", "OA_STAGING_CONTROL_AUTH_TOKEN": ""}
    folder = world.rollout("unprobed", "--cohort-soak-seconds", "900", more=unset)

    assert answered(folder) == "allow"
    assert details(folder)["warnedTests"] == ["cohort 5", "cohort 25", "cohort 100"]
    assert answered(folder, cohorts=(5,)) == "none"
    assert answered(folder, soak_seconds=900) == "none"


def test_a_demo_is_refused_unless_one_is_asked_for(allow: Path) -> None:
    forge(allow, lambda header: header.update(environment="demo"))

    assert [
        item["name"] for item in json.loads((allow / "decision.json").read_text())["subject"]
    ] == ["SUMMARY.md"]
    assert answered(allow) == "none"
    assert answered(allow, demo=True) == "allow"


# -- forgeries --------------------------------------------------------------------------------


def test_leaving_out_the_cohort_that_failed_is_found(block: Path) -> None:
    def cut(header: dict[str, Any]) -> None:
        header["cohorts"] = header["declared_cohorts"] = [5]

    forge(block, cut)

    assert answered(block) == "block"
    assert "a cohort that rollout.json does not know" in (block / "SUMMARY.md").read_text()


def test_leaving_out_cohorts_with_their_rows_is_found_by_whoever_asks_for_them(
    allow: Path,
) -> None:
    file = allow / "cohort-results.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:1]))
    for name in ("cohort-25.json", "cohort-100.json"):
        (allow / name).unlink()
    chain = json.loads(file.read_text())["chain"]

    def cut(header: dict[str, Any]) -> None:
        header["cohorts"] = [5]
        header["sealed"]["cohort-results.jsonl"] = chain

    forge(allow, cut)

    assert answered(allow) == "allow"
    assert answered(allow, cohorts=(5, 25, 100)) == "none"


def test_rows_of_another_rollout_are_found(block: Path, allow: Path) -> None:
    other = json.loads((allow / "rollout.json").read_text())["attempts"][0]["run_id"]
    rows = "cohort-results.jsonl"
    shutil.copy(allow / rows, block / rows)
    for name in ("cohort-25.json", "cohort-100.json", "cohort-5.json"):
        shutil.copy(allow / name, block / name)

    forge(block, lambda header: header.update(sealed={}))

    assert other not in (block / "rollout.json").read_text()
    assert answered(block) == "block"
    assert (
        "rows of an attempt that rollout.json does not know" in (block / "SUMMARY.md").read_text()
    )


# -- the newest below a root ------------------------------------------------------------------


@pytest.fixture
def root(kept_allow: Path, kept_block: Path, tmp_path: Path) -> Path:
    """An allow, and a later block of the same commit under a name that sorts before it."""
    shutil.copytree(kept_allow, tmp_path / "root" / "b-allow")
    shutil.copytree(kept_block, tmp_path / "root" / "a-block")
    return tmp_path / "root"


def of_root(root: Path, **demands: Any) -> str:
    return verify_newest(root, Demands(**demands), now()).answer


def test_a_later_block_supersedes_an_older_allow(world: Rollouts, root: Path) -> None:
    assert of_root(root, commit=world.commit) == "block"
    assert of_root(root) == "block"
    shutil.rmtree(root / "a-block")
    assert of_root(root, commit=world.commit) == "allow"
    assert of_root(root, commit=OTHER) == "none"


def test_a_block_is_not_hidden_by_an_allow_of_the_same_moment(root: Path) -> None:
    at = Evidence(root / "a-block").header().decided_at
    forge(root / "b-allow", lambda header: header.update(decided_at=at))

    assert of_root(root) == "block"
    shutil.rmtree(root / "a-block")
    assert of_root(root) == "allow"


@pytest.mark.parametrize(
    ("file", "text", "instead"),
    [
        ("rollout.json", '"environment": "staging"', '"environment": "staging-eu"'),
        ("rollout.json", '"environment": "staging"', '"environment": "demo"'),
        ("rollout.json", '"20', '"19'),
        ("decision.json", '"environment": "staging"', '"environment": "staging-eu"'),
        ("decision.json", '"20', '"19'),
        ("decision.json", '"commits": [', '"commits": [], "x": ['),
    ],
)
def test_a_later_block_is_not_hidden_by_an_edit_of_one_of_its_files(
    file: str, text: str, instead: str, world: Rollouts, root: Path
) -> None:
    edited = root / "a-block" / file
    assert text in edited.read_text()
    edited.write_text(edited.read_text().replace(text, instead))

    assert of_root(root, commit=world.commit, environment="staging") == "none"


def test_a_rollout_of_another_commit_does_not_answer(world: Rollouts, root: Path) -> None:
    change = world.checkout / "change"
    change.write_text("")
    later = world.commit_all()
    shutil.copytree(world.rollout("later"), root / "later")
    world.git("reset", "-q", "--hard", world.commit)

    assert of_root(root, commit=later) == "allow"
    assert of_root(root, commit=world.commit) == "block"


def test_a_later_rollout_of_no_commit_that_is_known_may_be_of_the_one_that_is_asked_for(
    world: Rollouts, root: Path
) -> None:
    for name in ("rollout.json", "gate-results.jsonl", "decision.json"):
        file = root / "a-block" / name
        file.write_text(file.read_text().replace(f'"{world.commit}"', "null"))

    assert of_root(root, commit=world.commit) == "none"


def test_several_environments_below_a_root_are_not_mixed_up(world: Rollouts, root: Path) -> None:
    forge(root / "b-allow", lambda header: header.update(environment="staging-eu"))

    assert of_root(root, commit=world.commit) == "none"
    assert of_root(root, commit=world.commit, environment="staging-eu") == "allow"
    assert of_root(root, commit=world.commit, environment="staging") == "block"


def test_a_rollout_that_cannot_be_read_may_be_the_newest(root: Path) -> None:
    (root / "a-block" / "rollout.json").unlink()

    assert of_root(root) == "none"


# -- every change is found --------------------------------------------------------------------


def content_of(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def mutations(
    content: dict[str, bytes], bits: tuple[int, ...]
) -> Iterator[tuple[str, bytes | None]]:
    """A file, and what it holds instead; None where it is removed."""
    for name, data in content.items():
        for at in range(len(data)):
            for bit in bits:
                yield name, data[:at] + bytes([data[at] ^ (1 << (at + bit) % 8)]) + data[at + 1 :]
        lines = data.splitlines(keepends=True)
        for at, line in enumerate(lines):
            yield name, b"".join([*lines[:at], *lines[at + 1 :]])
            yield name, b"".join([*lines[:at], line, *lines[at:]])
            yield name, b"".join([*lines[:at], *lines[at + 1 : at + 2], line, *lines[at + 2 :]])
        yield name, None
        yield f"{name}.added", data
        yield name, b""
        for other in content.values():
            yield name, other


def missed(
    folder: Path, content: dict[str, bytes], every: int, bits: tuple[int, ...]
) -> tuple[int, list[str]]:
    """How many mutations were made, and those that were not found with their file's name."""
    tried, found = 0, []
    for number, (name, data) in enumerate(mutations(content, bits)):
        if data == content.get(name) or number % every:
            continue
        tried, file = tried + 1, folder / name
        file.unlink(missing_ok=True)
        if data is not None:
            file.write_bytes(data)
        said = check(Evidence(folder))
        if said.answer != "none" or not any(name in why for why in said.reasons):
            found.append(f"{number}: {name}: {said.reasons}")
        file.unlink(missing_ok=True)
        if name in content:
            file.write_bytes(content[name])
    return tried, found


def test_of_many_changes_none_is_missed(allow: Path) -> None:
    content = content_of(allow)

    tried, found = missed(allow, content, every=23, bits=(0,))

    assert (tried > 300, found) == (True, [])
    assert check(Evidence(allow)).answer == "allow"


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_of_all_changes_none_is_missed(world: Rollouts) -> None:
    folder = world.rollout("changed", *DEFAULT_PLAN, more=world.more_snapshots)

    tried, found = missed(folder, content_of(folder), every=1, bits=(0, 3))

    assert (tried >= 25_000, found) == (True, [])


NAMES = st.sampled_from(
    ["SUMMARY.md", "decision.json", "rollout.json", "gate-results.jsonl", "a", "logs/a", ".claim",
     "in-flight/a.json", "a.png", ".a-b", "decision.json.sig", "rollback-results.jsonl"]
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_adding_or_removing_files_never_allows(
    data: st.DataObject,
    kept_allow: Path,
    kept_block: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = content_of(kept_block)
    names = st.sampled_from(sorted(content))
    removed = data.draw(st.sets(names, max_size=3), label="removed")
    given_allow = content_of(kept_allow)
    added = data.draw(
        st.dictionaries(NAMES, st.sampled_from([b"", b"{}\n", *given_allow.values()]), max_size=3),
        label="added",
    )
    root = tmp_path_factory.mktemp("root")
    for name, kept in {**given_allow}.items():
        write(root / "older" / name, kept)
    for name, kept in {**added, **content}.items():
        if name not in removed:
            write(root / "newer" / name, kept)

    assert answered(root / "newer") in ("block", "none")
    if len(removed) < 2:
        assert of_root(root) in ("block", "none")


def write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("SUMMARY.md")])
def test_what_is_no_file_is_refused(make: Callable[[Path], object], allow: Path) -> None:
    make(allow / "logs" / "odd")

    assert check(Evidence(allow)).reasons == ("logs/odd is nothing that can be read",)


# -- the command ------------------------------------------------------------------------------


def run(world: Rollouts, *words: str, code: int) -> str:
    done = world.command("verify", *words, code=code)
    return done.stdout + done.stderr


def test_the_command_answers_with_an_exit_code(
    world: Rollouts, allow: Path, block: Path, root: Path
) -> None:
    assert run(world, str(allow), code=0).endswith("Decision: allow (consistent, unsigned)\n")
    assert "blocks: cohort 25 % failed" in run(world, str(block), code=1)
    assert run(world, str(root), "--commit", world.commit.upper(), "--max-age", "1d", code=1)
    assert "10, 50 %" in run(world, str(allow), "--cohorts", "10,50", code=3)
    (allow / "logs" / "added.log").write_text("")
    told = json.loads(run(world, str(allow), "--json", code=3))
    assert (told["answer"], told["changed"]) == ("none", ["logs/added.log"])


@pytest.mark.parametrize(
    "words",
    [
        "--commit abc", "--max-age 1", "--max-age soon", "--cohorts 5,4", "--signer me",
        "--cohort-soak-seconds -1", "--signers /no/such/file --signer me", "--nonsense",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_bad_input(words: str, world: Rollouts, kept_allow: Path) -> None:
    run(world, str(kept_allow), *words.split(), code=2)


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_a_folder_that_is_not_there_is_bad_input(name: str, world: Rollouts) -> None:
    assert "is no folder: accepted is" in run(world, name, code=2)


WATCHED = """
import sys
def watch(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
        raise SystemExit(f"writes {arguments}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
from canary_pipeline.commands.main import main
try:
    main(["verify", sys.argv[1]])
finally:
    unwanted = {"dagster", "pandas", "rich", "matplotlib"} & set(sys.modules)
    if unwanted:
        print(unwanted)
        raise SystemExit(99)
"""


def test_the_command_reads_and_does_no_more(world: Rollouts, allow: Path) -> None:
    for path in (allow, *allow.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in allow.rglob("*")}

    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(allow)],
        env=world.variables, capture_output=True, text=True, check=False,
    )  # fmt: skip

    after = {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in allow.rglob("*")}
    assert (done.returncode, before) == (0, after), done.stdout + done.stderr
    for path in (allow, *(path for path in allow.rglob("*") if path.is_dir())):
        path.chmod(0o755)


@pytest.mark.prove
def test_a_verification_takes_at_most_half_the_time_of_importing_dagster(
    world: Rollouts, allow: Path
) -> None:
    def seconds(*words: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *words], env=world.variables, check=True)
        after = os.times()
        return after.children_user + after.children_system - sum(before[2:4])

    verify_it = (str(PROGRAMS / "canary-rollout"), "verify", str(allow))
    verifying = min(seconds(*verify_it) for _ in range(5))

    assert verifying <= min(seconds("-c", "import dagster") for _ in range(5)) / 2


# -- who else reads decisions -----------------------------------------------------------------


def test_run_and_status_print_the_decision_alone(world: Rollouts) -> None:
    where = ("--output-dir", str(world.root / "json"), "--cohorts", "5")
    ran = world.command("run", "--json", *where, "--cohort-soak-seconds", "0")
    asked = world.command("status", "--json", str(world.root / "json"))

    written = (world.root / "json" / "decision.json").read_text()
    assert (ran.stdout, asked.stdout) == (written, written)
    assert "Decision: allow" in ran.stderr


def test_status_and_history_do_not_believe_a_forged_line(world: Rollouts, block: Path) -> None:
    summary = block / "SUMMARY.md"
    summary.write_text(summary.read_text().replace("Decision: block", "Decision: allow"))

    status = world.command("status", str(block)).stdout
    history = world.command("history", "--json", str(block.parent)).stdout
    world.command("status", "--json", str(block), code=3)

    assert "unreliable: SUMMARY.md is not the file that decision.json names" in status
    assert status.endswith("Decision: none that one can rely on\n")
    told = json.loads(history)
    assert (told["decision"], told["verifies"], told["commit"]) == (None, False, world.commit)
    assert " NO " in world.command("history", str(block.parent)).stdout
