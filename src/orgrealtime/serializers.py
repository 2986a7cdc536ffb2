"""What goes into a cache, as JSON: unlike a pickle, it can't run code when it is read."""

from __future__ import annotations

import math
from typing import Any

import msgspec


class JSONSerializer:
    """For Django's Redis cache: `"OPTIONS": {"serializer": "orgrealtime.serializers.JSONSerializer"}`.

    Keeps what JSON can: None, booleans, numbers, texts, lists, and dicts with keys that are text. Raises TypeError for
    anything else, and msgspec.DecodeError for what was written by another serializer.
    """

    def dumps(self, value: Any) -> int | bytes:
        """Return what Redis is given; a number as it is, so that Redis can count on."""
        _check(value)
        return value if type(value) is int else msgspec.json.encode(value)

    def loads(self, data: Any) -> Any:
        """Return the value of what Redis has."""
        return msgspec.json.decode(data)


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for key, member in value.items():
            if type(key) is not str:
                raise TypeError(f"a key is {type(key).__name__}: JSON keeps texts only")
            _check(member)
    elif type(value) is list:
        for member in value:
            _check(member)
    elif type(value) is float:
        if not math.isfinite(value):
            raise TypeError(f"JSON can't keep {value}")
    elif value is not None and type(value) not in {bool, int, str}:
        raise TypeError(f"JSON can't keep a {type(value).__name__} as what it is")
