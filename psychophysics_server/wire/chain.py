"""The chain over a session's events: two sides that hold the same bodies in the same order compute the same text."""

from __future__ import annotations

from collections.abc import Iterable

from bench.store import sha256_bytes


def body_hash(body: str) -> str:
    """Return the SHA-256 of an event body's exact text, as UTF-8, in lower-case hexadecimal."""
    return sha256_bytes(body.encode())


def link(chain: str, hashed: str) -> str:
    """Return chain_i = sha256hex(chain_{i-1} + body_hash_i); chain_0 is the empty text."""
    return sha256_bytes((chain + hashed).encode())


def chain_over(hashes: Iterable[str]) -> str:
    """Return the chain over body hashes in the order of seq."""
    chain = ""
    for hashed in hashes:
        chain = link(chain, hashed)
    return chain
