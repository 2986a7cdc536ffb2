"""Where in the stream a client wants to begin, read from the query string of a handshake or a request."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs

from orgrealtime.protocol.cursors import Cursor
from orgrealtime.protocol.errors import CloseCode, CursorError, Refused

MAX_LAST = 500
MAX_FIELDS = 20


class Beginning(NamedTuple):
    """After the cursor `since`, or before the `last` events; neither means now."""

    since: Cursor | None = None
    last: int | None = None


def parse_beginning(query_string: bytes) -> Beginning:
    """Return where a client wants to begin; raise Refused (4400) for what can't be read, or for both at once."""
    try:
        query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise _malformed("the query can't be read") from None
    since, last = query.get("since"), query.get("last")
    if since and last:
        raise _malformed("give 'since' or 'last', not both")
    if last:
        return Beginning(last=parse_count(last[-1], "last", MAX_LAST))
    return Beginning(since=parse_since(since[-1]) if since else None)


def parse_since(text: str) -> Cursor:
    """Return the cursor in `since`; raise Refused (4400) if it is none."""
    try:
        return Cursor.parse(text)
    except CursorError as error:
        raise _malformed(f"since: {error}") from None


def parse_count(text: str, name: str, most: int) -> int:
    """Return a number of events; raise Refused (4400) unless it is 1 to `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
        raise _malformed(f"'{name}' is a whole number from 1 to {most}")
    return int(text)


def _malformed(message: str) -> Refused:
    return Refused(CloseCode.BAD_REQUEST, "malformed query", message)
