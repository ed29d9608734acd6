"""Text for people: durations, and what comes from elsewhere and must not break its line."""


def one_line(text: str) -> str:
    """Text without line ends or other control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def duration(seconds: float) -> str:
    """Seconds as people read them: `0.4 s`, `12.3 s`, `15 min 0 s`, `1 h 15 min`."""
    minute, hour = 60, 3600
    if seconds < minute:
        return f"{seconds:.1f} s"
    if seconds < hour:
        return f"{int(seconds // minute)} min {int(seconds % minute)} s"
    return f"{int(seconds // hour)} h {int(seconds % hour // minute)} min"
