"""Primary keys on the wire, and their names."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from channels.layers import BaseChannelLayer
from hypothesis import example, given
from hypothesis import strategies as st

from orgrealtime.protocol.keys import MAX_NAME, key_as_json, name_of

KEY = uuid.UUID("0c5a7c2e-52a5-4be6-9a39-8f7fb6b1ad4e")
MOST = 2**53 - 1


class Number(int):
    """An integer that prints otherwise."""

    def __str__(self) -> str:
        return f"number {int(self)}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (7, 7),
        (Number(7), 7),
        (MOST, MOST),
        (-MOST, -MOST),
        (MOST + 1, str(MOST + 1)),
        (-MOST - 1, str(-MOST - 1)),
        (2**63, str(2**63)),
        ("acme", "acme"),
        ("7", "7"),
        (KEY, str(KEY)),
    ],
)
def test_integer_that_browsers_can_hold_stays_one_and_any_other_key_is_a_text(
    key: Any, value: int | str
) -> None:
    found = key_as_json(key)
    assert (found, type(found)) == (value, type(value))


@given(st.integers())
def test_no_key_is_rounded_by_a_browser(key: int) -> None:
    read = json.loads(json.dumps(key_as_json(key)), parse_int=lambda digits: int(float(digits)))
    assert str(read) == str(key)


texts = st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_.:-]{1,80}", fullmatch=True)


@given(texts)
@example("")
@example("_" + "0" * 48)
@example("acme:eu")
@example("acme\n")
@example("Zürich")
@example("q" * 65)
@example("\ud800")
def test_name_fits_every_channel_layer(text: str) -> None:
    name = name_of(text)
    assert BaseChannelLayer().require_valid_group_name(f"org-{name}")
    assert 0 < len(name) <= MAX_NAME


@given(texts, texts)
@example("Zürich", "Zurich")
@example("q" * 65, "q" * 66)
@example("acme:eu", "acme_eu")
def test_different_keys_have_different_names(one: str, other: str) -> None:
    assert (name_of(one) == name_of(other)) == (one == other)


@given(texts)
def test_no_key_is_the_name_of_another(text: str) -> None:
    name = name_of(text)
    assert name == text or name_of(name) != name


@pytest.mark.parametrize("text", ["1", "-7", str(2**63), str(KEY), "acme", "org_1.eu", "q" * 64])
def test_simple_key_is_its_own_name(text: str) -> None:
    assert name_of(text) == text


def test_name_of_a_key_is_the_same_in_every_process() -> None:
    assert name_of("acme:eu") == "_e666dbf75acbae2cc3b6d4b64c20ca12a15bcf0249d91485"
