"""What a text may be: the same numbers as in JavaScript, and nothing that can't be seen alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orgrealtime.chat.errors import ChatError
from orgrealtime.chat.text import checked_body, checked_line
from tests.chat.contents import refusal

# Texts with the number of code points after NFC, which tests/js holds against JavaScript, and of bytes.
LENGTHS = json.loads((Path(__file__).parent / "lengths.json").read_text())


def check(text: object, length: int = 4000, size: int = 16_000) -> str:
    return checked_body(text, max_length=length, max_bytes=size)


@pytest.mark.parametrize(("text", "length", "size"), LENGTHS)
def test_text_is_taken_at_its_length_and_refused_below(text: str, length: int, size: int) -> None:
    kept = check(text, length, size)
    assert (len(kept), len(kept.encode())) == (length, size)
    if length > 1:
        error = refusal(lambda: check(text, length - 1))
        assert (error.code, error.details) == (
            "too_long",
            {"limit": length - 1, "length": length, "unit": "code points"},
        )
    error = refusal(lambda: check(text, length, size - 1))
    assert (error.code, error.details) == ("too_long", {"limit": size - 1, "length": size, "unit": "bytes"})


def test_text_of_exactly_the_limit_is_taken_and_one_more_is_refused() -> None:
    assert len(check("😀" * 4000)) == 4000
    assert refusal(lambda: check("a" * 4001)).details == {
        "limit": 4000,
        "length": 4001,
        "unit": "code points",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t",
        "\u200b",
        "\u200d\ufe0f",
        "\u3164",
        "\u2800",
        "\u00ad",
        "\u115f",
        "\u2066\u2069",
        "\U000e0041",
    ],
)
def test_text_of_which_nothing_is_seen_is_empty(text: str) -> None:
    assert refusal(lambda: check(text)).code == "empty"


@pytest.mark.parametrize(
    "text", ["a\x00", "\x1b[31m", "a\r\nb", "\x0b", "\x1f", "\ud800", "a\udfffb", 5, None, b"a", ["a"]]
)
def test_what_can_be_no_text_is_refused_with_its_reason(text: object) -> None:
    error = refusal(lambda: check(text))
    assert error.code == "bad_request"
    assert any(word in str(error) for word in ("control character U+", "lone surrogate", "is a text, not"))


@pytest.mark.parametrize("text", [".", "✓", "ア", "\u0301", "م", "𓀀", "\ue000"])
def test_text_that_is_seen_is_taken(text: str) -> None:
    assert check(text) == text


def test_line_has_no_spaces_around_it_and_no_line_feed() -> None:
    assert checked_line("name", "  General ", max_length=7) == "General"
    for text in ("a\nb", "a\tb", "\x7f"):
        assert refusal(lambda text=text: checked_line("name", text, max_length=9)).code == "bad_request"
    with pytest.raises(ChatError, match="name has 8 code points; at most 7"):
        checked_line("name", "Generals", max_length=7)
