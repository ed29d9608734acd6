"""Cohort sequences, and what may be seen of a URL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.model.plan import check_cohorts, parse_cohorts
from canary_pipeline.model.urls import origin, shown_url


@pytest.mark.parametrize(
    ("text", "cohorts"),
    [
        ("5,10,25,50,100", (5, 10, 25, 50, 100)),
        (" 5 ,\t10", (5, 10)),
        ("100", (100,)),
        ("1,2,3", (1, 2, 3)),
    ],
)
def test_a_cohort_sequence(text: str, cohorts: tuple[int, ...]) -> None:
    assert parse_cohorts(text) == cohorts


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "5,", "5,,10", "0", "101", "-5", "+5", "5.0", "08", "0144", "5,5", "10,5",
        "18446744073709551617", "5\n", "5,\n10", "5 10", "five",
        "\u0665", "0x5", "1e1", "5%", "5;10",
    ],
)  # fmt: skip
def test_what_is_no_cohort_sequence(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_cohorts(text)


@given(st.sets(st.integers(1, 100), min_size=1))
def test_every_increasing_sequence_is_read_as_it_is_written(percents: set[int]) -> None:
    ordered = tuple(sorted(percents))

    assert parse_cohorts(",".join(map(str, ordered))) == ordered


@pytest.mark.parametrize("percents", [[], [0], [101], [-1], [5, 5], [10, 5], [5, 10, 7]])
def test_what_is_no_launched_cohort_sequence(percents: list[int]) -> None:
    with pytest.raises(ValueError, match=r".*"):
        check_cohorts(percents)


@given(st.text("0123456789, -\n", max_size=12))
def test_what_is_read_is_always_increasing_and_within_bounds(text: str) -> None:
    try:
        cohorts = parse_cohorts(text)
    except ValueError:
        return
    assert list(cohorts) == sorted(set(cohorts))
    assert all(1 <= percent <= 100 for percent in cohorts)
    assert ",".join(map(str, cohorts)) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@host:8443/a/b?key=secret#part", "https://host:8443/a/b?…"),
        ("http://host", "http://host"),
        ("http://host?key=secret", "http://host?…"),
        ("http://user@host/", "http://host/"),
        ("http://:pass@host/#secret", "http://host/"),
        ("http://a%40b:p%3Ass@host:80/x", "http://host:80/x"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://host/a", "https://host:443/b", True),
        ("http://host", "http://HOST:80", True),
        ("https://host", "http://host", False),
        ("https://host", "https://host:8443", False),
        ("https://host", "https://host.evil", False),
        ("https://host", "https://host@evil", False),
        ("https://host", "https://user:pass@host/", True),
        ("http://host:443", "https://host", False),
        ("http://[::1]/", "http://[::1]:80", True),
        ("http://localhost", "http://127.0.0.1", False),
    ],
)
def test_origins(one: str, other: str, same: bool) -> None:  # noqa: FBT001 - a table's column
    assert (origin(one) == origin(other)) == same


SECRET = st.text("abcdef0123456789", min_size=8)


@given(SECRET, SECRET, SECRET)
def test_no_secret_of_a_url_is_ever_shown(user: str, password: str, value: str) -> None:
    shown = shown_url(f"https://{user}:{password}@host:8443/x?key={value}#{value}")

    assert shown == "https://host:8443/x?…"
