"""A rollout's folder, published as it grows and fetched by another host."""

import json
import os
import shutil
import threading
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from canary_pipeline.outside.object_store import (
    ConflictError,
    ObjectStore,
    Stored,
    StoreUnreachableError,
)
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.store.listing import published_rollouts, rollout_prefix
from canary_pipeline.store.order import names_in
from canary_pipeline.store.published import Published, PublishedByAnotherError

PREFIX = rollout_prefix("staging", "staging-20260225T080000Z")

FILES = {
    "rollout.json": "{}",
    "gate-results.jsonl": '{"gate": "one"}\n',
    "cohort-results.jsonl": '{"cohort_percent": 5}\n',
    "logs/gate-one.log": "log",
    "in-flight/cohort-5.json": "{}",
    "SUMMARY.md": "Decision: allow\n",
    "decision.json": "{}",
    "decision.json.sig": "signed",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@dataclass
class Wrapped:
    """A store that is away at some writes, by their numbers, or whose answers to them get lost.

    It may have no room for files whose names begin with something.
    """

    real: ObjectStore
    written: list[str] = field(default_factory=list)
    away: Container[int] = ()
    lost: Container[int] = ()
    refused: str = "none"

    def get(self, key: str) -> Stored | None:
        return self.real.get(key)

    def put(self, key: str, content: bytes | Path) -> None:
        self._write(key, lambda: self.real.put(key, content))

    def create(self, key: str, data: bytes) -> str:
        return str(self._write(key, lambda: self.real.create(key, data)))

    def swap(self, key: str, data: bytes, etag: str) -> str:
        return str(self._write(key, lambda: self.real.swap(key, data, etag)))

    def keys(self, prefix: str, after: str = "") -> Iterator[list[str]]:
        return self.real.keys(prefix, after)

    def folders(self, prefix: str) -> list[str]:
        return self.real.folders(prefix)

    def delete(self, key: str) -> None:
        self._write(key, lambda: self.real.delete(key))

    def _write(self, key: str, write: "object") -> object:
        assert callable(write)
        number, name = len(self.written), key.removeprefix(f"{PREFIX}/")
        self.written.append(name)
        if number in self.away or name.startswith(self.refused):
            raise StoreUnreachableError
        result = write()
        if number in self.lost:
            raise StoreUnreachableError
        return result


def test_what_is_published_is_what_another_host_fetches(store: ObjectStore, tmp_path: Path) -> None:
    here = write(tmp_path / "here", FILES)
    write(here, {".claim": "", ".rollout.json-x1": "half", "logs/.x": ""})
    published = Published(here, store, PREFIX)

    assert set(published.pending()) == FILES.keys()
    assert published.publish_all()
    assert published.pending() == []

    there = Published(tmp_path / "there", store, PREFIX)
    assert set(there.fetch()) == FILES.keys()
    assert contents(tmp_path / "there") == FILES
    assert there.pending() == []
    assert published_rollouts(store, "staging") == ["staging-20260225T080000Z"]
    assert published_rollouts(store, "staging-eu") == []


def test_what_concludes_is_published_last_with_all_that_it_rests_on(
    store: ObjectStore, tmp_path: Path
) -> None:
    wrapped = Wrapped(store)
    published = Published(write(tmp_path / "here", FILES), wrapped, PREFIX)

    published.publish(["decision.json", "SUMMARY.md"])

    assert wrapped.written[-3:] == ["rollout.json", "SUMMARY.md", "decision.json"]
    assert set(wrapped.written) == FILES.keys() - {"decision.json.sig"}
    assert published.pending() == ["decision.json.sig"]


def test_a_decision_is_there_before_its_signature_and_after_its_summary(
    store: ObjectStore, tmp_path: Path
) -> None:
    wrapped = Wrapped(store)

    Published(write(tmp_path / "here", FILES), wrapped, PREFIX).publish_all()

    assert wrapped.written[-3:] == ["SUMMARY.md", "decision.json", "decision.json.sig"]


def test_only_what_changed_is_written_again_and_what_ended_is_taken_away(
    store: ObjectStore, tmp_path: Path
) -> None:
    wrapped = Wrapped(store)
    Published(write(tmp_path / "here", FILES), wrapped, PREFIX).publish_all()
    wrapped.written.clear()
    with (tmp_path / "here/gate-results.jsonl").open("a") as file:
        file.write('{"gate": "two"}\n{"gate": "thr')
    (tmp_path / "here/in-flight/cohort-5.json").unlink()
    (tmp_path / "here/SUMMARY.md").unlink()  # somebody cleans up here; what is published stays

    again = Published(tmp_path / "here", wrapped, PREFIX)
    assert again.pending() == ["gate-results.jsonl", "in-flight/cohort-5.json"]
    again.publish_all()

    assert wrapped.written == ["gate-results.jsonl", "in-flight/cohort-5.json"]
    found = store.get(f"{PREFIX}/gate-results.jsonl")
    assert found
    assert found.data == b'{"gate": "one"}\n{"gate": "two"}\n'
    assert store.get(f"{PREFIX}/SUMMARY.md")
    assert store.get(f"{PREFIX}/in-flight/cohort-5.json") is None


def test_a_step_that_ends_while_it_is_published_is_taken_away(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = Published(write(tmp_path / "here", FILES), store, PREFIX)
    published.publish_all()
    step = write(tmp_path / "here", {"in-flight/cohort-5.json": "{ }"}) / "in-flight/cohort-5.json"
    read_bytes = Path.read_bytes

    def ended_before(path: Path) -> bytes:  # another gate's thread comes first
        step.unlink(missing_ok=True)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", ended_before)
    assert published.publish_all()

    assert store.get(f"{PREFIX}/in-flight/cohort-5.json") is None
    assert published.pending() == []


def test_the_last_step_may_end_while_the_names_of_files_are_read(tmp_path: Path) -> None:
    here = write(tmp_path / "here", {"in-flight/one.json": "", "logs/one.log": "", "a.json": ""})
    seen = []
    for name in names_in(here):
        seen.append(name)
        if "/" in name:  # the other folder is still to come
            shutil.rmtree(here / ("logs" if name.startswith("in-flight") else "in-flight"))

    assert len(seen) == 2


@pytest.mark.parametrize("made", [False, True])
def test_whenever_the_store_goes_away_nothing_is_lost_and_no_conclusion_stands_alone(
    tmp_path: Path, *, made: bool
) -> None:
    for moment in range(2 * len(FILES)):
        folder = tmp_path / f"{made}-{moment}"
        shared = folder / "shared"
        shared.mkdir(parents=True)
        store = open_store(f"file://{shared}")
        wrapped = Wrapped(store, away=set() if made else {moment}, lost={moment} if made else ())
        here = write(folder / "here", FILES)
        whole = Published(here, wrapped, PREFIX).publish_all()
        assert whole == (moment >= len(FILES))
        if not whole and store.get(f"{PREFIX}/SUMMARY.md"):
            assert all(store.get(f"{PREFIX}/{name}") for name in FILES if "decision" not in name)

        write(here, {"rollout.json": '{"later": 1}', "decision.json": '{"later": 1}'})
        # As after a kill: what was known is read from the folder.
        published = Published(here, wrapped, PREFIX)
        while not published.publish_all():
            pass
        Published(folder / "there", store, PREFIX).fetch()

        assert contents(folder / "there") == contents(here)


@pytest.mark.parametrize(
    ("refused", "kept_back"),
    [
        ("logs/", {"gate-results.jsonl", "cohort-results.jsonl", "in-flight/cohort-5.json"}),
        ("gate-", {"in-flight/cohort-5.json"}),
        ("in-flight/", set()),
        ("rollout.json", set()),
    ],
)
def test_what_the_store_has_no_room_for_keeps_back_only_what_rests_on_it(
    store: ObjectStore, tmp_path: Path, refused: str, kept_back: set[str]
) -> None:
    wrapped = Wrapped(store, refused=refused)
    published = Published(write(tmp_path / "here", FILES), wrapped, PREFIX)

    assert not published.publish_all()

    there = {name for name in FILES if store.get(f"{PREFIX}/{name}")}
    conclusions = {"SUMMARY.md", "decision.json", "decision.json.sig"}
    refused_files = {name for name in FILES if name.startswith(refused)}
    assert there == FILES.keys() - kept_back - conclusions - refused_files
    wrapped.refused = "none"
    assert published.publish_all()
    assert published.pending() == []


def test_a_store_that_keeps_one_waiting_is_not_asked_for_every_file(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = Wrapped(store, away=range(100))
    published = Published(write(tmp_path / "here", FILES), wrapped, PREFIX)
    monkeypatch.setattr("canary_pipeline.store.published.PATIENCE_SECONDS", 0.0)

    assert not published.publish_all()
    assert len(wrapped.written) == 1


@pytest.mark.parametrize("changes", ["ABCDE", "ABBBBC", "ABCCCD", "ABCDEFGHIJKLMNOPQRST", "ABABAC"])
def test_an_outage_is_not_taken_for_another_host_however_often_the_file_changes_in_it(
    store: ObjectStore, tmp_path: Path, changes: str
) -> None:
    name, last = "in-flight/cohort-5.json", len(changes) - 1
    wrapped = Wrapped(store, lost={1}, away=range(2, last))

    for number, content in enumerate(changes):
        here = write(tmp_path / "here", {name: content})
        # As after a kill: what was sent is read from the folder.
        assert Published(here, wrapped, PREFIX).publish_all() == (number in (0, last))

    found = store.get(f"{PREFIX}/{name}")
    assert found
    assert found.data.decode() == changes[-1]


@pytest.mark.parametrize("name", ["rollout.json", "gate-results.jsonl", "SUMMARY.md"])
def test_who_was_succeeded_writes_nothing_over_its_successor(
    store: ObjectStore, tmp_path: Path, name: str
) -> None:
    first = Published(write(tmp_path / "first", FILES), store, PREFIX)
    first.publish_all()
    second = Published(tmp_path / "second", store, PREFIX)
    second.fetch()
    write(tmp_path / "second", {name: FILES[name] + '{"by": "the second"}\n'})
    second.publish_all()
    write(tmp_path / "first", {name: FILES[name] + '{"by": "the first"}\n'})

    with pytest.raises(PublishedByAnotherError, match=name):
        first.publish_all()
    # The first host goes on later: what it could not publish is put aside.
    again = Published(tmp_path / "first", store, PREFIX)
    again.fetch()

    assert (tmp_path / "first" / name).read_text() == FILES[name] + '{"by": "the second"}\n'
    aside = tmp_path / "first" / "unpublished" / name
    assert aside.read_text() == FILES[name] + '{"by": "the first"}\n'
    assert again.pending() == []


def test_fetching_keeps_what_was_added_here_while_the_store_was_away(
    store: ObjectStore, tmp_path: Path
) -> None:
    here = write(tmp_path / "here", FILES)
    Published(here, store, PREFIX).publish_all()
    later = {
        "gate-results.jsonl": FILES["gate-results.jsonl"] + '{"gate": "two"}\n',
        "rollout.json": '{"attempts": 2}',
        "logs/gate-one.log": "log, and more",
        "cohort-5.json": "{}",
    }
    write(here, later)

    resumed = Published(here, store, PREFIX)
    resumed.fetch()

    assert contents(here) == FILES | later
    assert set(resumed.pending()) == later.keys()
    assert resumed.publish_all()
    assert not (here / "unpublished").exists()


LOG = "logs/gate-one.log"


def test_a_log_that_was_fetched_half_is_fetched_whole_and_never_published_over_the_whole_one(
    store: ObjectStore, tmp_path: Path
) -> None:
    here, there = Published(write(tmp_path / "here", FILES), store, PREFIX), tmp_path / "there"
    here.publish_all()
    Published(there, store, PREFIX).fetch()
    shutil.copytree(there, tmp_path / "copied")  # whose files have other inodes
    write(tmp_path / "here", {LOG: "log, and all the rest of it"})
    here.publish_all()

    for folder in (there, tmp_path / "copied"):
        fetched = Published(folder, store, PREFIX)
        fetched.fetch()
        assert (folder / LOG).read_text() == "log, and all the rest of it"
        assert fetched.pending() == []
        assert not (folder / "unpublished").exists()


def test_a_log_that_gave_room_on_a_full_disk_stays_as_its_row_names_it(
    store: ObjectStore, tmp_path: Path
) -> None:
    folder = write(tmp_path / "here", FILES)
    Published(folder, store, PREFIX).publish_all()
    write(folder, {LOG: "lo"})

    for _ in range(2):  # the store goes away between
        again = Published(folder, store, PREFIX)
        again.fetch()
        assert (folder / LOG).read_text() == "lo"
        assert again.pending() == [LOG]


@pytest.mark.parametrize(
    ("here", "kept", "aside"),
    [("lo", "log", False), ("log, and more", "log, and more", False), ("other", "log", True)],
)
def test_of_a_log_of_which_nothing_is_known_here_what_goes_on_from_the_published_one_is_kept(
    store: ObjectStore, tmp_path: Path, here: str, kept: str, *, aside: bool
) -> None:
    Published(write(tmp_path / "one", FILES), store, PREFIX).publish_all()
    folder = write(tmp_path / "two", {**FILES, LOG: here})

    published = Published(folder, store, PREFIX)
    published.fetch()

    assert (folder / LOG).read_text() == kept
    assert published.pending() == ([LOG] if kept == here else [])
    assert (folder / "unpublished" / LOG).exists() == aside


def test_a_log_that_an_older_version_has_kept_half_is_fetched_whole(
    store: ObjectStore, tmp_path: Path
) -> None:
    Published(write(tmp_path / "here", FILES), store, PREFIX).publish_all()
    there = tmp_path / "there"
    Published(there, store, PREFIX).fetch()
    # It took what it had fetched for what it had written, and did not look again.
    write(there, {LOG: "lo"})
    known = json.loads((there / ".published.json").read_text())
    known[LOG] = {"seen": None, "etag": known[LOG]["etag"], "sent": [sha256(b"lo").hexdigest()]}
    (there / ".published.json").write_text(json.dumps(known))

    published = Published(there, store, PREFIX)
    assert not published.is_current()
    published.fetch()

    assert (there / LOG).read_text() == "log"
    assert published.is_current()
    assert published.pending() == []


def test_threads_of_a_rollout_publish_side_by_side(store: ObjectStore, tmp_path: Path) -> None:
    published = Published(write(tmp_path / "here", FILES), store, PREFIX)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for row in range(5):
                with (tmp_path / "here" / f"{number}.jsonl").open("a") as file:
                    file.write(f'{{"row": {row}}}\n')
                published.publish([f"{number}.jsonl"])
                published.publish_all()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    Published(tmp_path / "there", store, PREFIX).fetch()
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_name_that_leaves_the_folder_is_not_fetched(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    store = open_store(f"file://{shared}")
    store.put(f"{PREFIX}/..name", b"")
    store.put(f"{PREFIX}/rollout.json", b"{}")

    assert Published(tmp_path / "there", store, PREFIX).fetch() == ["rollout.json"]


def test_a_change_within_one_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    shared, here = tmp_path / "shared", write(tmp_path / "here", {"rollout.json": "1"})
    shared.mkdir()
    published = Published(here, open_store(f"file://{shared}"), PREFIX)
    published.publish_all()
    before = (here / "rollout.json").stat()
    (here / ".new").write_text("2")
    os.utime(here / ".new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (here / ".new").replace(here / "rollout.json")

    assert published.pending() == ["rollout.json"]


def test_a_folder_that_was_published_under_the_same_name_by_another_is_not_replaced(
    store: ObjectStore, tmp_path: Path
) -> None:
    Published(write(tmp_path / "one", FILES), store, PREFIX).publish_all()
    other = Published(write(tmp_path / "two", {"rollout.json": '{"two": 2}'}), store, PREFIX)

    with pytest.raises(PublishedByAnotherError):
        other.publish_all()
    with pytest.raises(ConflictError):
        store.create(f"{PREFIX}/rollout.json", b"")
