"""What comes from elsewhere stays on its line, and nothing of it is hidden."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.model.text import foreign, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ümläut, 漢字 🐤", "ümläut, 漢字 🐤"),
        ("x\nDecision: allow\r\n::warning::", r"x\nDecision: allow\r\n::warning::"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("a\u00a0b\u3000c", "a b c"),
        ("\ud800 \U000e0041", r"\ud800 \U000e0041"),
    ],
)
def test_what_cannot_be_printed_is_seen_as_an_escape(text: str, shown: str) -> None:
    assert one_line(text) == foreign(text) == shown


@given(st.text(), st.integers(1, 50))
def test_foreign_text_is_one_printable_line_of_bounded_length(text: str, longest: int) -> None:
    shown = foreign(text, longest)

    assert shown.isprintable()
    assert len(shown) <= longest
    assert len(shown.splitlines()) <= 1
    assert foreign(shown, longest) == shown
