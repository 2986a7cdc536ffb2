"""What a text may be. The length that counts is that of JavaScript's `[...text.normalize("NFC")].length`."""

from __future__ import annotations

import re
import unicodedata

from orgrealtime.chat.errors import ChatError

SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")  # C0 but tab and line feed
CONTROL_IN_LINE = re.compile("[\x00-\x1f\x7f]")
# Of these categories nothing is seen: controls, formats, separators, combining marks that stand alone, unassigned.
UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Zl", "Zp", "Zs"})
# Nor of these, which are letters, symbols or marks to Unicode: fillers, the empty Braille cell, joiners, selectors.
UNSEEN = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)


def checked_body(text: object, *, max_length: int, max_bytes: int) -> str:
    """Return the text of a message in Unicode's NFC.

    `max_length` is in code points, `max_bytes` in bytes of UTF-8, both of what is returned. Raises ChatError:
    bad_request for what can't be text or has control characters, empty if nothing of it would be seen, too_long.
    """
    body = _normalized("body", text)
    if found := CONTROL.search(body):
        raise ChatError(
            "bad_request",
            f"body has the control character U+{ord(found[0]):04X}; of those only tab and line feed are allowed",
        )
    if len(body) > max_length:
        raise ChatError(
            "too_long",
            f"body has {len(body)} code points; at most {max_length} are allowed",
            limit=max_length,
            length=len(body),
            unit="code points",
        )
    if (size := len(body.encode())) > max_bytes:
        raise ChatError(
            "too_long",
            f"body takes {size} bytes in UTF-8; at most {max_bytes} are allowed",
            limit=max_bytes,
            length=size,
            unit="bytes",
        )
    if not is_seen(body):
        raise ChatError("empty", "body is empty, or nothing of it can be seen")
    return body


def checked_line(field: str, text: object, *, max_length: int) -> str:
    """Return a text of one line, as a name, in NFC and without spaces around it; raise ChatError as `checked_body`."""
    line = _normalized(field, text).strip()
    if found := CONTROL_IN_LINE.search(line):
        raise ChatError("bad_request", f"{field} has the control character U+{ord(found[0]):04X}")
    if len(line) > max_length:
        raise ChatError(
            "too_long",
            f"{field} has {len(line)} code points; at most {max_length} are allowed",
            limit=max_length,
            length=len(line),
            unit="code points",
        )
    if not is_seen(line):
        raise ChatError("empty", f"{field} is empty, or nothing of it can be seen")
    return line


def is_seen(text: str) -> bool:
    """Tell whether at least one character of a text can be seen."""
    return any(
        character not in UNSEEN and unicodedata.category(character) not in UNSEEN_CATEGORIES
        for character in text
    )


def _normalized(field: str, text: object) -> str:
    if not isinstance(text, str):
        raise ChatError("bad_request", f"{field} is a text, not {type(text).__name__}")
    if SURROGATE.search(text):
        raise ChatError("bad_request", f"{field} has a lone surrogate, which isn't valid Unicode text")
    return unicodedata.normalize("NFC", text)
