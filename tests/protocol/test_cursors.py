"""The cursor on the wire, and whether a reader may go on from it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgrealtime.errors import CursorError, StreamReset
from orgrealtime.models import new_epoch
from orgrealtime.protocol.cursors import Cursor, Position

EPOCH = "0a1b2c3d"
POSITION = Position(EPOCH, head=20, floor=5)


@given(st.integers(0, 10**18 - 1))
def test_a_cursor_comes_back_as_it_went(seq: int) -> None:
    cursor = Cursor(new_epoch(), seq)
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.5",
        "true",
        "null",
        "-1",
        "x.1",
        EPOCH,
        f"{EPOCH}.",
        f"{EPOCH}.-1",
        f"{EPOCH}.+1",
        f"{EPOCH}.01",
        f"{EPOCH}.1.0",
        f"{EPOCH}.1e3",
        f"{EPOCH}.1_0",
        f"{EPOCH}.0x1",
        f"{EPOCH}.\u0661",
        f"{EPOCH}.\uff11",
        f"{EPOCH}.²",
        f"{EPOCH}. 1",
        f" {EPOCH}.1",
        f"{EPOCH}.1 ",
        f"{EPOCH}.1\n",
        f"{EPOCH}.1\x00",
        f"{EPOCH.upper()}.1",
        "0a1b2c3é.1",
        f"{EPOCH}.{10**18}",
        f"{EPOCH}.{'9' * 10_000}",
        "9" * 10_000,
        None,
        True,
        1,
        1.5,
        b"0a1b2c3d.1",
        [EPOCH, 1],
    ],
    ids=lambda text: repr(text)[:30],
)
def test_what_isnt_a_cursor_is_refused(text: object) -> None:
    with pytest.raises(CursorError):
        Cursor.parse(text)


@given(st.text() | st.from_regex(r"[0-9a-f]{0,10}\.?[0-9.]{0,20}", fullmatch=True))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with contextlib.suppress(CursorError):
        assert str(Cursor.parse(text)) == text


def test_the_error_doesnt_repeat_what_was_sent() -> None:
    with pytest.raises(CursorError) as caught:
        Cursor.parse("<script>")
    assert "script" not in str(caught.value)


@given(st.integers(5, 20))
def test_a_reader_within_what_is_kept_goes_on(seq: int) -> None:
    assert POSITION.resume(Cursor(EPOCH, seq)) == seq


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        (Cursor("ffffffff", 10), "epoch"),
        (Cursor("ffffffff", 99), "epoch"),
        (Cursor(EPOCH, 21), "ahead"),
        (Cursor(EPOCH, 4), "retention"),
        (Cursor(EPOCH, 0), "retention"),
    ],
)
def test_a_reader_whose_continuity_cant_be_proved_is_reset(cursor: Cursor, reason: str) -> None:
    with pytest.raises(StreamReset) as caught:
        POSITION.resume(cursor)
    assert (caught.value.reason, caught.value.position) == (reason, POSITION)


def test_a_position_gives_the_cursor_of_its_head() -> None:
    assert POSITION.cursor == POSITION.cursor_at(20) == f"{EPOCH}.20"
