"""Parts for tests of what touches the world: clock, staging, and real object stores."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from canary_pipeline.outside.object_store import ObjectStore
from canary_pipeline.outside.open_store import open_store
from canary_pipeline_tests.outside.s3_server import moto, seaweedfs
from canary_pipeline_tests.rollout.conftest import clock, one_staging, staging

__all__ = ["clock", "moto_s3", "one_staging", "seaweed", "staging", "store", "url"]


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as address:
        yield address


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[str]:
    with moto() as address:
        yield address


def use_s3(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")


SERVED = (pytest.mark.prove, pytest.mark.machines)


@pytest.fixture(
    params=["file", *(pytest.param(name, marks=SERVED) for name in ("seaweed", "moto_s3"))]
)
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store that is used by this test only."""
    if request.param == "file":
        shared = tmp_path / "shared"
        shared.mkdir()
        return f"file://{shared}"
    use_s3(monkeypatch, request.getfixturevalue(request.param))
    return f"s3://evidence/{uuid4()}"


@pytest.fixture
def store(url: str) -> ObjectStore:
    return open_store(url)
