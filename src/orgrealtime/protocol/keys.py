"""Primary keys of the host's models, as they travel."""

from __future__ import annotations

import hashlib
import re
from typing import Any

MAX_JSON_INTEGER = 2**53 - 1  # beyond it JavaScript rounds
MAX_NAME = 64
PLAIN_NAME = re.compile(rf"[A-Za-z0-9-][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}", re.ASCII)
DIGEST_MARK = "_"  # with which no plain name begins


def key_as_json(key: Any) -> int | str:
    """Return a primary key as a JSON value: an integer that JavaScript can hold as it is, any other key as its text."""
    return int(key) if isinstance(key, int) and abs(key) <= MAX_JSON_INTEGER else str(key)


def name_of(text: str) -> str:
    """Return a name for the text of a key: ASCII, at most `MAX_NAME` characters, fit for a channel layer's groups.

    A short text of letters, digits and `_ . -` is its own name.
    """
    if PLAIN_NAME.fullmatch(text):
        return text
    digest = hashlib.blake2s(text.encode(errors="surrogatepass"), digest_size=24)
    return DIGEST_MARK + digest.hexdigest()
