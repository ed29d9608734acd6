"""Text from elsewhere that must not break out of its line."""


def one_line(text: str) -> str:
    """Text without line ends or other control characters."""
    return "".join(character if character.isprintable() else " " for character in text)
