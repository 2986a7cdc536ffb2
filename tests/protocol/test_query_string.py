"""What a client may say about where it begins, and that nothing else comes through."""

from __future__ import annotations

import contextlib
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orgrealtime.protocol.cursors import Cursor
from orgrealtime.protocol.errors import CloseCode, Refused
from orgrealtime.protocol.query_string import MAX_FIELDS, MAX_LAST, Beginning, parse_beginning, parse_count

CURSOR = Cursor("0a1b2c3d", 17)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", Beginning()),
        ("ticket=abc", Beginning()),
        (f"since={CURSOR}", Beginning(since=CURSOR)),
        ("since=" + quote(str(CURSOR), safe=""), Beginning(since=CURSOR)),
        (f"since={Cursor('ffffffff', 1)}&since={CURSOR}", Beginning(since=CURSOR)),
        ("last=1", Beginning(last=1)),
        (f"last={MAX_LAST}&more=1", Beginning(last=MAX_LAST)),
        ("last=000009", Beginning(last=9)),
    ],
)
def test_beginning_is_read(query: str, expected: Beginning) -> None:
    assert parse_beginning(query.encode()) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (f"since={CURSOR}&last=1", "give 'since' or 'last', not both"),
        (f"since={CURSOR}&last=", "give 'since' or 'last', not both"),
        ("since=", "since: "),
        ("last=", f"'last' is a whole number from 1 to {MAX_LAST}"),
        ("last=0", f"'last' is a whole number from 1 to {MAX_LAST}"),
        (f"last={MAX_LAST + 1}", f"'last' is a whole number from 1 to {MAX_LAST}"),
        ("last=-1", f"'last' is a whole number from 1 to {MAX_LAST}"),
        ("last=1.5", f"'last' is a whole number from 1 to {MAX_LAST}"),
        ("last=0000001", f"'last' is a whole number from 1 to {MAX_LAST}"),
        ("last=%D9%A3", f"'last' is a whole number from 1 to {MAX_LAST}"),  # a digit of another script
        ("since=17", "since: "),
        ("&".join(["a=1"] * (MAX_FIELDS + 1)), "the query can't be read"),
    ],
)
def test_what_is_no_beginning_is_refused_4400_and_says_why(query: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_beginning(query.encode())
    assert refused.value.code == CloseCode.BAD_REQUEST
    assert refused.value.message.startswith(message)


@given(st.binary(max_size=200))
@example(b"since=%ff%fe&\xff=1")
@example(b"last=" + b"9" * 5000)
def test_anything_at_all_is_a_beginning_within_the_limits_or_refused(query: bytes) -> None:
    beginning = Beginning()
    with contextlib.suppress(Refused):
        beginning = parse_beginning(query)
    assert beginning.since is None or beginning.last is None
    assert beginning.last is None or 1 <= beginning.last <= MAX_LAST


@given(
    epoch=st.text("0123456789abcdef", min_size=8, max_size=8), seq=st.integers(0, 10**18 - 1), name=st.text()
)
def test_cursor_that_was_sent_comes_back(epoch: str, seq: int, name: str) -> None:
    cursor = Cursor(epoch, seq)
    query = urlencode([("since", str(cursor)), ("x" + name, name)])
    assert parse_beginning(query.encode()) == Beginning(since=cursor)


@given(st.integers(1, 1000), st.integers(-10, 2000))
def test_count_is_taken_up_to_its_limit(most: int, number: int) -> None:
    if 1 <= number <= most:
        assert parse_count(str(number), "last", most) == number
    else:
        with pytest.raises(Refused, match="malformed query"):
            parse_count(str(number), "last", most)
