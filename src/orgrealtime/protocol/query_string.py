"""What both doors read from a query string."""

from __future__ import annotations

from orgrealtime.protocol.errors import CloseCode, Refused


def parse_count(text: str, name: str, most: int) -> int:
    """Return a number of events; raise Refused (4400) unless it is 1 to `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
        raise Refused(
            CloseCode.BAD_REQUEST, "malformed query", f"'{name}' is a whole number from 1 to {most}"
        )
    return int(text)
