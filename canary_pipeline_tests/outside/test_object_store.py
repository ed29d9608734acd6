"""Objects that hosts share: one winner of every race, and stores that cannot promise it refused."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from socket import create_server

import pytest

from canary_pipeline.outside.object_store import (
    ConflictError,
    ObjectStore,
    StoreUnreachableError,
    StoreUnusableError,
)
from canary_pipeline.outside.open_store import open_store
from canary_pipeline_tests.odd_host import mounted
from canary_pipeline_tests.outside.conftest import use_s3
from canary_pipeline_tests.outside.s3_server import Ignores, careless_s3, free_ports


def test_what_was_written_is_read_with_its_etag_and_the_store_s_time(store: ObjectStore) -> None:
    etag = store.create("leases/staging.json", b"one")
    first = store.get("leases/staging.json")
    swapped = store.swap("leases/staging.json", b"two", etag)
    second = store.get("leases/staging.json")

    assert first
    assert second
    assert (first.data, first.etag) == (b"one", etag)
    assert (second.data, second.etag) == (b"two", swapped)
    assert timedelta(0) <= second.modified - first.modified < timedelta(minutes=1)
    assert store.get("leases/production.json") is None


def test_a_write_whose_condition_does_not_hold_changes_nothing(store: ObjectStore) -> None:
    stale = store.create("key", b"one")
    now = store.swap("key", b"two", stale)
    refused: list[Callable[[], str]] = [
        lambda: store.create("key", b"three"),
        lambda: store.swap("key", b"three", stale),
        lambda: store.swap("no such key", b"three", now),
    ]

    for write in refused:
        with pytest.raises(ConflictError):
            write()
    found = store.get("key")
    assert found
    assert found.data == b"two"
    assert store.get("no such key") is None


@pytest.mark.parametrize("round_", range(3))
def test_a_race_of_sixteen_writers_has_one_winner(url: str, round_: int) -> None:
    stores = [open_store(url) for _ in range(16)]
    etag = stores[0].create("swapped", b"nobody")

    def race(number: int) -> tuple[int, int]:
        won = [0, 0]
        data = f"{number}-{round_}".encode()
        with suppress(ConflictError):
            stores[number].create("created", data)
            won[0] = 1
        with suppress(ConflictError):
            stores[number].swap("swapped", data, etag)
            won[1] = 1
        return won[0], won[1]

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(race, range(16)))

    assert [sum(kind) for kind in zip(*won, strict=True)] == [1, 1]
    for kind, key in enumerate(("created", "swapped")):
        found = stores[0].get(key)
        winner = next(number for number in range(16) if won[number][kind])
        assert found
        assert found.data == f"{winner}-{round_}".encode()


def test_keys_are_listed_in_pages_past_a_key_and_folders_by_name(store: ObjectStore) -> None:
    names = [f"{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(f"rollouts/staging/{name}/x", b""), names))
    store.put("rollouts/staging-eu/other/x", b"")

    pages = list(store.keys("rollouts/staging", after="rollouts/staging/0049/x"))

    assert [key for page in pages for key in page] == [
        f"rollouts/staging/{name}/x" for name in names[50:]
    ]
    assert max(map(len, pages)) <= 1000
    assert store.folders("rollouts/staging") == names
    assert store.folders("rollouts") == ["staging", "staging-eu"]
    assert (store.folders("nothing"), list(store.keys("nothing"))) == ([], [])


def test_a_file_is_written_whole_whatever_its_size(store: ObjectStore, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 50_000)

    store.put("a log", big)
    store.put("empty", b"")
    found, empty = store.get("a log"), store.get("empty")

    assert found
    assert empty
    assert (found.data == big.read_bytes(), empty.data) == (True, b"")
    store.delete("a log")
    store.delete("a log")
    assert store.get("a log") is None


def test_opening_leaves_nothing_behind(url: str) -> None:
    store = open_store(url)

    assert list(store.keys("self-test")) == []


def test_who_only_reads_opens_a_store_without_writing_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with careless_s3("If-None-Match") as (address, held):  # or else refused
        use_s3(monkeypatch, address)
        open_store("s3://evidence/prefix", tries=False)
        assert held() == 0

    with pytest.raises(StoreUnusableError, match="is none of s3://"):
        open_store("https://bucket.example/prefix", tries=False)
    with pytest.raises(StoreUnusableError, match=r"no folder that can be read: is it mounted\?"):
        open_store("file:///no/such/folder", tries=False)


def test_a_share_that_is_mounted_to_be_read_can_be_read(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}").put("key", b"here")
    read_only = mounted(
        f"mount --bind '{tmp_path}' '{tmp_path}'; mount -o remount,ro,bind '{tmp_path}'"
    )
    program = (
        "from canary_pipeline.outside.open_store import open_store\n"
        f"print(open_store('file://{tmp_path}', tries=False).get('key').data)\n"
    )

    printed = subprocess.check_output([*read_only, sys.executable, "-c", program], text=True)

    assert printed == "b'here'\n"


@pytest.mark.parametrize("ignores", ["If-None-Match", "If-Match"])
def test_a_store_that_ignores_a_condition_is_refused(
    ignores: Ignores, monkeypatch: pytest.MonkeyPatch
) -> None:
    with careless_s3(ignores) as (address, held):
        use_s3(monkeypatch, address)
        with pytest.raises(StoreUnusableError, match="two hosts could roll out at once"):
            open_store("s3://evidence/prefix")
        assert held() == 0

    with careless_s3() as (address, _):
        use_s3(monkeypatch, address)
        open_store("s3://evidence/prefix")


def test_a_store_whose_answers_are_lost_is_not_taken_for_one_that_ignores_conditions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with careless_s3("answers") as (address, held):
        use_s3(monkeypatch, address)
        open_store("s3://evidence/prefix")
        assert held() == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/shared/folder",
        "https://bucket.example/prefix",
        "s3://",
        "file://host/shared",
        "file:///no/such/folder",
        "s3://key:secret-key@bucket/prefix",
        "s3://bucket/prefix?secret_access_key=secret-key",
        "s3://bucket/prefix#secret-key",
    ],
)
def test_a_url_that_is_no_place_is_refused_without_showing_secrets(url: str) -> None:
    with pytest.raises(StoreUnusableError) as refused:
        open_store(url)

    assert "secret-key" not in str(refused.value)


def test_without_the_extra_a_bucket_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "canary_pipeline.outside.bucket", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)

    with pytest.raises(StoreUnusableError, match=r"pip install 'canary-pipeline\[cloud\]'"):
        open_store("s3://evidence/prefix")


def test_a_store_that_is_away_is_unreachable_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    [port] = free_ports(1)
    use_s3(monkeypatch, f"http://127.0.0.1:{port}")

    with pytest.raises(StoreUnreachableError, match="s3://evidence/prefix does not answer") as away:
        open_store("s3://evidence/prefix")

    assert "\n" not in str(away.value)


EMPTY = (
    "AWS_ALLOW_HTTP", "AWS_CONDITIONAL_PUT", "AWS_ENDPOINT", "AWS_REGION", "AWS_SESSION_TOKEN",
    "AWS_SKIP_SIGNATURE", "AZURE_STORAGE_USE_EMULATOR", "GOOGLE_SERVICE_ACCOUNT",
)  # fmt: skip


def test_an_empty_variable_of_a_cloud_counts_as_unset_and_stays_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in EMPTY:
        monkeypatch.setenv(name, "")
    with careless_s3() as (address, _):
        use_s3(monkeypatch, address)
        open_store("s3://evidence/prefix")

    assert {os.environ[name] for name in EMPTY} == {""}
    inherited = subprocess.check_output([shutil.which("env") or "env"], text=True).splitlines()
    assert {f"{name}=" for name in EMPTY} <= set(inherited)


def test_with_an_empty_endpoint_the_cloud_s_own_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(10)
        use_s3(monkeypatch, "")
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "")

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(open_store, "s3://evidence/prefix")
            asked, _ = proxy.accept()
            line = asked.makefile().readline()
            proxy.close()
            asked.close()
            assert isinstance(asking.exception(), StoreUnreachableError)

    assert line == "CONNECT s3.us-east-1.amazonaws.com:443 HTTP/1.1\n"


@pytest.mark.parametrize(
    "endpoint",
    ["minio:9000", "//minio", "ftp://minio", "http://", "http://[::1", "https://h:99999"],
)
def test_an_endpoint_that_is_no_url_is_refused_by_its_name(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(monkeypatch, endpoint)

    with pytest.raises(
        StoreUnusableError, match=r"AWS_ENDPOINT_URL is not usable .*; accepted: an"
    ):
        open_store("s3://evidence/prefix")


def test_what_obstore_panics_at_is_refused_in_one_line_without_the_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_s3(monkeypatch, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "s3cret\ntoken")

    with pytest.raises(StoreUnusableError, match=r"^s3://evidence/prefix cannot .*: ") as refused:
        open_store("s3://evidence/prefix")

    assert "\n" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("allowed", ["", "false", "soon"])
def test_another_host_s_server_must_be_https_and_the_refusal_says_what_allows_http(
    allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with careless_s3(host="127.0.0.2") as (address, held):  # none of the names of this host
        use_s3(monkeypatch, address.replace("//", "//user:s3cret@"))
        monkeypatch.setenv("AWS_ALLOW_HTTP", allowed)
        with pytest.raises(StoreUnusableError, match=f"{address}.*AWS_ALLOW_HTTP=true") as refused:
            open_store("s3://evidence/prefix")

        assert "s3cret" not in str(refused.value)
        assert held() == 0


def test_http_to_another_host_is_what_somebody_may_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    with careless_s3(host="127.0.0.2") as (address, _):
        use_s3(monkeypatch, address)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        open_store("s3://evidence/prefix")


def test_a_writer_that_is_killed_amid_a_swap_holds_nobody_up(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    etag = store.create("key", b"one")
    program = (
        "import os, pathlib, signal\n"
        "from canary_pipeline.outside.open_store import open_store\n"
        f"store = open_store('file://{tmp_path}')\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"store.swap('key', b'never', '{etag}')\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9

    store.swap("key", b"two", etag)
    found = store.get("key")
    assert found
    assert found.data == b"two"


def test_a_writer_that_is_paused_amid_a_swap_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canary_pipeline.outside.shared_folder.LOCK_SECONDS", 0.1)
    store = open_store(f"file://{tmp_path}")
    etag = store.create("key", b"one")
    program = (
        "import os, pathlib, signal, sys\n"
        "from canary_pipeline.outside.open_store import open_store\n"
        f"store = open_store('file://{tmp_path}')\n"
        "real = pathlib.Path.replace\n"
        "def pause(*paths):\n"
        "    print('paused', flush=True)\n"
        "    sys.stdin.read()\n"
        "    return real(*paths)\n"
        "pathlib.Path.replace = pause\n"
        f"store.swap('key', b'late', '{etag}')\n"
    )
    paused = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert paused.stdout
    assert paused.stdout.readline() == "paused\n"

    with pytest.raises(StoreUnreachableError, match="another host is amid a write"):
        store.swap("key", b"two", etag)
    paused.communicate("")

    with pytest.raises(ConflictError):
        store.swap("key", b"two", etag)
