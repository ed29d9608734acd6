"""Text for people: durations, and what comes from elsewhere and must not break its line."""

import unicodedata


def one_line(text: str) -> str:
    r"""Text whose line ends and other unprintable characters are seen as escapes, such as `\n`.

    That takes in terminal escapes, and what turns the direction of writing.
    """
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":
        return " "  # a blank of another kind
    return character.encode("unicode_escape").decode()


def foreign(text: str, longest: int = 200) -> str:
    """Somebody else's words on one line, cut to so many characters."""
    shown = one_line(text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def duration(seconds: float) -> str:
    """Seconds as people read them: `0.4 s`, `12.3 s`, `15 min 0 s`, `1 h 15 min`."""
    minute, hour = 60, 3600
    if seconds < minute:
        return f"{seconds:.1f} s"
    if seconds < hour:
        return f"{int(seconds // minute)} min {int(seconds % minute)} s"
    return f"{int(seconds // hour)} h {int(seconds % hour // minute)} min"
