"""Primary keys on the wire."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from orgrealtime.protocol.keys import key_as_json

KEY = uuid.UUID("0c5a7c2e-52a5-4be6-9a39-8f7fb6b1ad4e")


@pytest.mark.parametrize(
    ("key", "value"), [(7, 7), (2**63, 2**63), ("acme", "acme"), ("7", "7"), (KEY, str(KEY))]
)
def test_integer_stays_one_and_any_other_key_is_a_text(key: Any, value: int | str) -> None:
    found = key_as_json(key)
    assert (found, type(found)) == (value, type(value))
