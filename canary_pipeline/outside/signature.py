"""Signatures by OpenSSH: `ssh-keygen -Y`, with keys, agents and allowed signers as git has them."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMESPACE = "canary-rollout"
"""What a signature is for: one that the same key made for anything else proves nothing here."""

PATIENCE_SECONDS = 60
"""How long a signature may take: a hardware key waits for a touch."""


class SignatureError(Exception):
    """Something could not be signed; the message says why and holds no secret."""


@dataclass(frozen=True)
class Signers:
    """Who may sign.

    Attributes:
        file: The allowed signers, as git's `gpg.ssh.allowedSignersFile`.
        name: The principal there that must have signed.
        revoked: Keys that count no more, as git's `gpg.ssh.revocationFile`.
    """

    file: Path
    name: str
    revoked: Path | None = None


def sign(data: bytes, key: Path, *, may_ask: bool = False) -> bytes:
    """Sign, and return the signature.

    Args:
        data: What to sign.
        key: A private key, or a public one whose private half is in the agent.
        may_ask: Whether a person is there to be asked for a passphrase.

    Raises:
        SignatureError: When it cannot be signed.
    """
    code, made, said = _ssh_keygen(data, "-Y", "sign", "-f", str(key), may_ask=may_ask)
    if code != 0 or not made:
        raise SignatureError(f"{key}: {said}")
    return made


def problem_of(data: bytes, signature: Path, signers: Signers) -> str | None:
    """Why a signature does not show that this signer signed this; None where it does."""
    revoked = ("-r", str(signers.revoked)) if signers.revoked else ()
    who = ("-f", str(signers.file), "-I", signers.name, "-s", str(signature))
    code, _, said = _ssh_keygen(data, "-Y", "verify", *who, *revoked)
    return None if code == 0 else said


def _ssh_keygen(data: bytes, *words: str, may_ask: bool = False) -> tuple[int, bytes, str]:
    """Its exit code, what it printed, and its last word on what is wrong."""
    quiet = {} if may_ask else {"SSH_ASKPASS_REQUIRE": "never"}
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["ssh-keygen", *words, "-n", NAMESPACE],  # noqa: S607 - wherever OpenSSH is installed
            input=data,
            env={**os.environ, **quiet, "LC_ALL": "C"},
            capture_output=True,
            check=False,
            timeout=None if may_ask else PATIENCE_SECONDS,
            start_new_session=not may_ask,  # without a terminal it asks nobody for a passphrase
        )
    except subprocess.TimeoutExpired:
        return -1, b"", f"ssh-keygen did not answer within {PATIENCE_SECONDS} s"
    except OSError as error:
        return -1, b"", f"ssh-keygen cannot be run: {error.strerror}"
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    return done.returncode, done.stdout, said[-1] if said else f"exit code {done.returncode}"
