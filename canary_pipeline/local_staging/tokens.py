"""Tokens of the stand-in: sessions of the control service, and topic scopes of the sync stream."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

ALGORITHM = "HS256"
LIFE = timedelta(hours=1)
STAGING_USER = "usr_staging_probe"

PREFIX = "OA_SPACETIME_STAGING"
"""What the names of the variables begin with that a staging's tokens are described by."""


class TokenRefusedError(Exception):
    """A token is not accepted; `kind` is the counter that its refusal goes to."""

    def __init__(self, kind: str) -> None:
        """Say which counter of `auth_failures` this is, without `_total`."""
        super().__init__(kind)
        self.kind = kind


def new_token_variables() -> dict[str, str]:
    """Variables of a staging's tokens, with a signing key of their own."""
    return {
        f"{PREFIX}_DATABASE": "local-staging",
        f"{PREFIX}_TOKEN_ISSUER": "local-staging",
        f"{PREFIX}_TOKEN_AUDIENCE": "spacetime-sync",
        f"{PREFIX}_JWT_SIGNING_KEY": secrets.token_hex(32),
    }


@dataclass(frozen=True)
class Issuer:
    """Issues and checks tokens with one signing key."""

    key: str = field(repr=False)
    issuer: str
    audience: str

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Issuer":
        """The issuer that these variables describe."""
        return cls(
            variables[f"{PREFIX}_JWT_SIGNING_KEY"],
            variables[f"{PREFIX}_TOKEN_ISSUER"],
            variables[f"{PREFIX}_TOKEN_AUDIENCE"],
        )

    def session(self, user: str = STAGING_USER, life: timedelta = LIFE) -> str:
        """A session access token of a user."""
        return self._sign({"sub": user, "kind": "session"}, life)

    def sync(self, topics: Sequence[str], life: timedelta = LIFE) -> str:
        """A sync token that may read and write these topics."""
        return self._sign({"sub": STAGING_USER, "kind": "sync", "topics": list(topics)}, life)

    def _sign(self, claims: dict[str, Any], life: timedelta) -> str:
        now = datetime.now(UTC)
        standard = {"iss": self.issuer, "aud": self.audience, "iat": now, "exp": now + life}
        return jwt.encode({**claims, **standard}, self.key, ALGORITHM)

    def claims(self, authorization: str | None, kind: str) -> dict[str, Any]:
        """The claims of an `Authorization` header's token.

        Raises:
            TokenRefusedError: When there is no token of this kind that can be accepted.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenRefusedError("unauthorized")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.key,
                [ALGORITHM],
                audience=self.audience,
                issuer=self.issuer,
                options={"require": ["exp", "sub", "kind"]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenRefusedError("token_expired") from None
        except jwt.ImmatureSignatureError:
            raise TokenRefusedError("token_not_yet_valid") from None
        except jwt.InvalidTokenError:
            raise TokenRefusedError("invalid_token") from None
        if claims["kind"] != kind:
            raise TokenRefusedError("invalid_token")
        return claims
