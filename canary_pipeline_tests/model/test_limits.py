"""Limits as the operator writes them, and the numbers that they are held against."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.model.limits import (
    Limit,
    numbers_of,
    numbers_to_keep,
    parse_limits,
    unknown_name,
)


def test_limits_are_levels_and_growths() -> None:
    limits = parse_limits(" lag<=0.25,+failed<=0 , + polls >= 3")

    assert limits == (
        Limit("lag", "<=", 0.25, growth=False),
        Limit("failed", "<=", 0, growth=True),
        Limit("polls", ">=", 3, growth=True),
    )
    assert ", ".join(map(str, limits)) == "lag<=0.25, +failed<=0, +polls>=3"


@given(
    st.lists(
        st.builds(
            Limit,
            st.text(st.characters(categories=["L", "N", "P"], exclude_characters=","), min_size=1),
            st.just("<="),
            st.integers(0, 10**15 - 1).map(lambda thousandths: thousandths / 1000),
            growth=st.booleans(),
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda limit: (limit.name, limit.growth),
    )
)
def test_a_written_limit_is_read_back(limits: list[Limit]) -> None:
    assert parse_limits(",".join(map(str, limits))) == tuple(limits)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no limit; accepted: up to 20 of NAME<=N"),
        ("a<=1,", "'' is no limit"),
        ("a", "'a' is no limit"),
        ("a<1", "'a<1' is no limit"),
        ("a<=x", "'a<=x' is no limit"),
        ("a<=nan", "'a<=nan' is no limit"),
        ("a<=1e3", "'a<=1e3' is no limit"),
        ("a<=01", "'a<=01' is no limit"),
        ("a<=0.0001", "'a<=0.0001' is no limit"),
        ("a<=1٣", "is no limit"),
        ("++a<=1", "'++a<=1' is no limit"),
        ("a b<=1", "'a b<=1' is no limit"),
        ("a\u2028<=1", "is no limit"),
        ("a\x1b<=1", "is no limit"),
        (f"{'a' * 201}<=1", "is no limit"),
        ("a>=1", "'a>=1': only a growth can have a minimum, as +NAME>=N"),
        ("+a<=-1", "'+a<=-1': what may grow never falls"),
        ("+a<=1,+a<=1.0", "'+a<=1': a already has a limit of this kind"),
        ("+a>=2,+a<=1", "'+a>=2' and '+a<=1' cannot both hold"),
        ("+a<=1,+a>=2", "'+a>=2' and '+a<=1' cannot both hold"),
        (",".join(f"a{n}<=1" for n in range(21)), "21 limits; at most 20"),
    ],
)
def test_what_is_no_limit_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_limits(text)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-(2.0**53), 2.0**53)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abcd"), inner),
)


def flat(value: Any, path: str = "") -> dict[str, float]:
    if isinstance(value, dict):
        parts = (flat(item, f"{path}.{key}" if path else key) for key, item in value.items())
        return {name: number for part in parts for name, number in part.items()}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {path: float(value)} if is_number and path else {}


@given(st.dictionaries(st.sampled_from("abcd"), JSON_VALUES))
def test_names_are_dotted_paths(value: dict[str, Any]) -> None:
    assert numbers_of(value) == flat(value)


def test_only_numbers_that_can_be_judged_are_numbers() -> None:
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"": deep, "a" * 100: deep}

    value = {
        "yes": True, "inf": math.inf, "nan": math.nan, "huge": 10**400, "inexact": 2**53 + 1,
        "text": "1", "list": [1], "n" * 201: 1, "e\n": 1, "a.b": 1, "a": {"b": 2, "c": 3},
    }  # fmt: skip

    assert numbers_of(value) == {"a.c": 3.0}
    assert numbers_of([{"a": 1}]) == numbers_of(5) == numbers_of({"a": {}}) == {}


def test_names_are_bounded_and_limited_ones_are_never_left_out() -> None:
    value = {f"n{number:04}": number for number in range(2000)} | {"z_total": 1, "zz": 2}

    numbers = numbers_of(value, ["zz"])
    kept = numbers_to_keep({**numbers, "z_total": 1}, parse_limits("+zz<=0"))

    assert (len(numbers), numbers["zz"]) == (501, 2.0)
    assert len(kept) == 100
    assert list(kept)[:3] == ["zz", "z_total", "n0000"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mirror.failed_total", None),
        ("mirror.faild_total", "no such name mirror.faild_total; near: mirror.failed_total"),
        ("qqqq", "no such name qqqq"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_what_is_near(name: str, says: str | None) -> None:
    assert unknown_name(parse_limits(f"+{name}<=0"), {"mirror.failed_total": 1, "zz": 2}) == says
