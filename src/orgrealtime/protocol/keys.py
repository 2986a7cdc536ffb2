"""Primary keys of the host's models, as they travel."""

from __future__ import annotations

from typing import Any


def key_as_json(key: Any) -> int | str:
    """Return a primary key as a JSON value: an integer as it is, any other (a UUID, a text) as its text."""
    return key if isinstance(key, int) else str(key)
