"""The session token in a file, renewed long before it expires: a stand-in may serve for days."""

import asyncio
from pathlib import Path

from canary_pipeline.local_staging.tokens import Issuer

NAME = "session-token"
RENEW_SECONDS = 60


async def keep_fresh(file: Path, issuer: Issuer, *, every: float = RENEW_SECONDS) -> None:
    """Renew a session token for as long as this runs.

    Args:
        file: Holds the token, for its owner only.
        issuer: Issues it.
        every: Seconds between renewals; short, since the clock of a sleeping laptop stands still.
    """
    while True:
        await asyncio.sleep(every)
        write_session(file, issuer)


def write_session(file: Path, issuer: Issuer) -> None:
    """Put a new session token in place of the one that the file holds."""
    partial = file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600, exist_ok=False)
    partial.write_text(issuer.session())
    partial.replace(file)
