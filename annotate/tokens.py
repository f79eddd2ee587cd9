"""Label Studio's keys: which kind one is, until when it lives, and how it is kept out of whatever is told."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote, quote_plus

from annotate.errors import StudioRefused

Kind = Literal["personal access token", "access token", "legacy token", "unknown token"]

WHERE_KEYS_ARE = (
    "Create a personal access token in Label Studio, Account & Settings, and set LABEL_STUDIO_API_KEY to it."
)
HIDDEN = "[key]"
SHORTEST = 8


@dataclass(frozen=True, slots=True)
class Token:
    """What a key says of itself; whether it is genuine, only the server knows.

    Attributes:
        kind: "personal access token" (a JWT that opens sessions), "access token" (such a session's, of five minutes),
            "legacy token" (40 hexadecimal digits), or "unknown token".
        expires_at: When it ends, UTC; None if it says nothing, as legacy tokens do.
    """

    kind: Kind
    expires_at: datetime | None

    @property
    def opens_sessions(self) -> bool:
        """Whether it is exchanged for a session's token, which is renewed while it lives."""
        return self.kind in ("personal access token", "access token")


def read_token(key: str) -> Token:
    """Tell the kinds apart, without the server.

    Args:
        key: The key, as it was given; it is never part of an error.

    Raises:
        StudioRefused: Nothing that could be one: empty, in quotes, or cut off.
    """
    if not key or not key.isascii() or len(key.split()) != 1:
        raise StudioRefused(f"No usable key for Label Studio was given. {WHERE_KEYS_ARE}")
    if key[0] in "'\"" or key[-1] in "'\"":
        raise StudioRefused(
            "The key for Label Studio stands in quotes that are part of it. Set LABEL_STUDIO_API_KEY without them."
        )
    claims = _claims(key)
    if claims is None:
        legacy = re.fullmatch(r"[0-9a-fA-F]{40}", key) is not None
        return Token("legacy token" if legacy else "unknown token", None)
    if key.count(".") == 1:
        raise StudioRefused(
            "The key is a personal access token without its last part, as Label Studio lists tokens after they were made. "
            "It shows the whole one only once: revoke it in Account & Settings, create another, and copy that."
        )
    expires = claims.get("exp")
    return Token(
        "access token" if claims.get("token_type") == "access" else "personal access token",
        datetime.fromtimestamp(expires, UTC)
        if isinstance(expires, int | float) and 0 <= expires < 2e11
        else None,
    )


def hide(text: str, *keys: str) -> str:
    """A text without the keys, however they are spelled in it: plain, URL-encoded or base64.

    What is shorter than eight characters is no key of any server's, and hiding it would only garble the text.
    """
    for key in (key for key in keys if len(key) >= SHORTEST):
        for spelling in _spellings(key):
            text = text.replace(spelling, HIDDEN)
    return text


def _claims(key: str) -> dict[str, Any] | None:
    """What a JWT says, unverified; None if it is none."""
    parts = key.split(".")
    if len(parts) not in (2, 3) or not parts[0].startswith("eyJ"):
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None


def _spellings(key: str) -> list[str]:
    signature = key.rpartition(".")[2]  # of a JWT the one part that is secret
    found = {key, quote(key, safe=""), quote_plus(key)}
    if key.count(".") == 2 and len(signature) >= SHORTEST:
        found.add(signature)
    for n_before in range(3):  # base64 of a longer text, in which the key begins at any place
        encoded = base64.b64encode(b" " * n_before + key.encode()).decode()
        inner = encoded[4 if n_before else 0 : -4]  # what its neighbours do not change
        found |= {inner, inner.translate({ord("+"): "-", ord("/"): "_"})}
    return sorted(found, key=len, reverse=True)
