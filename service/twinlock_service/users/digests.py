"""Digests of tokens: what tokens are stored, compared and named by."""

from __future__ import annotations

import hashlib

ID_LENGTH = 12
"""Hex digits of a token's digest by which people name the token."""


def digest(token: str) -> str:
    """Return what a token is stored and compared by, so that neither timing nor a file gives it away."""
    # Whatever bytes a header has, aiohttp makes a text of them, perhaps with lone surrogates.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def token_id(token_digest: str) -> str:
    """Return the name of a token for people, which doesn't help anybody to use it."""
    return token_digest[:ID_LENGTH]
