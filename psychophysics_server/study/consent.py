"""Consent: the version of the text that a person agreed to."""

from __future__ import annotations

import json

from bench.store import sha256_bytes

from .frozen import FrozenStudy


def consent_version(study: FrozenStudy) -> str:
    """Return the SHA-256 of what the consent page says: its title, its text and the contact."""
    texts = study.file.texts
    assert texts is not None
    said = [texts.consent.title, texts.consent.body, texts.contact]
    return sha256_bytes(json.dumps(said, ensure_ascii=False).encode())
