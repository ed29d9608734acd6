"""Who is let in, and for how long."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from canary_pipeline.local_staging.session_file import keep_fresh, write_session
from canary_pipeline.local_staging.tokens import Issuer, TokenRefusedError, new_token_variables
from canary_pipeline_tests.conftest import await_true

ISSUER = Issuer.read(new_token_variables())


def test_a_session_names_its_user_and_a_sync_token_its_topics() -> None:
    assert ISSUER.claims(f"Bearer {ISSUER.session('usr_1')}", "session")["sub"] == "usr_1"
    assert ISSUER.claims(f"bearer {ISSUER.sync(['a'])}", "sync")["topics"] == ["a"]


def test_a_token_lives_an_hour() -> None:
    claims = ISSUER.claims(f"Bearer {ISSUER.session()}", "session")

    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.parametrize(
    ("authorization", "kind"),
    [
        (None, "unauthorized"),
        ("", "unauthorized"),
        ("Bearer ", "unauthorized"),
        (f"Basic {ISSUER.session()}", "unauthorized"),
        ("Bearer nonsense", "invalid_token"),
        (f"Bearer {ISSUER.sync(['a'])}", "invalid_token"),
        (f"Bearer {replace(ISSUER, key='0' * 64).session()}", "invalid_token"),
        (f"Bearer {replace(ISSUER, audience='other').session()}", "invalid_token"),
        (f"Bearer {replace(ISSUER, issuer='other').session()}", "invalid_token"),
        (f"Bearer {ISSUER.session(life=timedelta(seconds=-1))}", "token_expired"),
    ],
    ids=[
        "nothing", "empty", "no token", "another scheme", "nonsense", "of a topic", "another key",
        "another audience", "another issuer", "expired",
    ],
)  # fmt: skip
def test_whatever_is_not_a_valid_session_is_refused(authorization: str | None, kind: str) -> None:
    with pytest.raises(TokenRefusedError) as refused:
        ISSUER.claims(authorization, "session")

    assert refused.value.kind == kind


def test_a_new_staging_has_a_key_of_its_own_that_is_not_shown() -> None:
    assert Issuer.read(new_token_variables()).key != ISSUER.key
    assert ISSUER.key not in repr(ISSUER)


def test_the_session_file_is_its_owners_alone(tmp_path: Path) -> None:
    write_session(tmp_path / "token", ISSUER)

    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_the_session_in_the_file_is_renewed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    write_session(file, replace(ISSUER, audience="before"))
    before = file.read_text()

    async def until_renewed() -> None:
        renewal = asyncio.create_task(keep_fresh(file, ISSUER, every=0.01))
        await asyncio.to_thread(await_true, lambda: file.read_text() != before)
        renewal.cancel()

    asyncio.run(until_renewed())
    assert ISSUER.claims(f"Bearer {file.read_text()}", "session")
