"""What the commands answer to whoever started them."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, as the contract fixes them."""

    ALLOW = 0
    BLOCK = 1
    BAD_INPUT = 2
    NO_DECISION = 3


class CommandError(Exception):
    """A command ends here; the message is for a person."""

    def __init__(self, code: Exit, message: str) -> None:
        """Say why, and with which exit code."""
        super().__init__(message)
        self.code = code
