"""What a payload may hold: checked before any SQL, because PostgreSQL would abort the caller's transaction."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from orgrealtime.protocol.errors import PayloadError, PayloadTooLarge

MAX_DEPTH = 32
MAX_SAFE_INTEGER = 2**53 - 1  # RFC 7493 section 2.2: beyond it a browser silently changes the number
COLLECTIONS = (dict, list, tuple, set, frozenset)
RESERVED_KEYS = frozenset({"type", "cursor", "created_at", "actor"})

_SURROGATE = re.compile("[\ud800-\udfff]")
_RELATIVE_URL = re.compile(r"/(?![/\\])[^\\\s\x00-\x1f\x7f]*")


def encode_payload(payload: object, *, max_bytes: int, url_hosts: Collection[str] = ()) -> str:
    """Return the payload as compact JSON text.

    `max_bytes` bounds the text in UTF-8; `url_hosts` are the hosts that an absolute URL may name.
    Raises PayloadError for anything but an object of JSON values, PayloadTooLarge over the limit.
    """
    if not isinstance(payload, dict):
        raise PayloadError(f"a payload is a JSON object (a dict), not {type(payload).__name__}")
    reserved = RESERVED_KEYS.intersection(payload)
    if reserved:
        raise PayloadError(f"the key {min(reserved)!r} is reserved for the frame; choose another name")
    check = _PayloadCheck(max_bytes, url_hosts)
    check.member(payload, None, 1)
    # As the JSONField will: unlike msgspec it takes subclasses of str, int and float, such as SafeString.
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode()) + check.digits_more
    if size > max_bytes:
        raise PayloadTooLarge(size, max_bytes)
    return text


def check_value(value: object) -> None:
    """Raise PayloadError unless `value` is plain JSON that PostgreSQL and a browser keep as it is."""
    _Check().member(value, None, 1)


def check_least_size(value: object, max_bytes: int) -> None:
    """Raise PayloadTooLarge for what takes more than `max_bytes` as JSON by the number of its values alone.

    Also for instances of classes, such as dataclasses, whose fields would be members. What is found in several places
    counts in each, as it does in JSON; no more is looked at than the limits allow. Raises PayloadError for what is
    nested too deep.
    """
    left = max_bytes
    waiting = [iter((value,))]
    while waiting:
        for member in waiting[-1]:
            left -= len(member) if isinstance(member, str) else 1
            if left < 0:
                raise PayloadTooLarge(max_bytes - left, max_bytes, is_least=True)
            if _holds_more(member):
                if len(waiting) > MAX_DEPTH:
                    raise PayloadError(f"the payload is nested deeper than {MAX_DEPTH} levels")
                waiting.append(_members(member))
                break
        else:
            waiting.pop()


def _holds_more(value: object) -> bool:
    return bool(value if isinstance(value, COLLECTIONS) else _fields_of(type(value)))


def _members(value: Any) -> Iterator[object]:
    if isinstance(value, dict):
        return iter(value.values())
    if isinstance(value, COLLECTIONS):
        return iter(value)
    # Not the plain ones: a class may leave them out where they have their default.
    return (each for name in _fields_of(type(value)) if _holds_more(each := getattr(value, name, None)))


def _fields_of(cls: Any) -> Iterable[str]:
    """Return the names of the fields of a msgspec Struct, a dataclass or a class of attrs."""
    if fields := getattr(cls, "__struct_fields__", ()) or getattr(cls, "__dataclass_fields__", ()):
        return fields  # type: ignore[no-any-return]
    return [attribute.name for attribute in getattr(cls, "__attrs_attrs__", ())]


Place = tuple[Any, str | int] | None
"""Where a value lies: the place of what it is a member of, and its key or index there; None is the outermost."""


class _Check:
    """Looks at each value of a tree once: whether it is plain JSON that PostgreSQL and a browser keep as it is."""

    def member(self, value: object, place: Place, depth: int) -> None:
        """Raise PayloadError for a value that lies so deep, or for one inside it."""
        if isinstance(value, str):
            self.text(value, place)
        elif value is None or isinstance(value, bool):
            self.takes(4)
        elif isinstance(value, int):
            self.takes(1)
            if abs(value) > MAX_SAFE_INTEGER:
                raise PayloadError(
                    f"{_path(place)} is an integer beyond ±(2**53 - 1), which browsers can't hold; send it as text"
                )
        elif isinstance(value, float):
            self.number(value, place)
        elif isinstance(value, dict):
            self._check_depth(place, depth)
            self.takes(1 + max(1, 2 * len(value)))  # braces, colons and commas
            for key, member in value.items():
                if not isinstance(key, str):
                    raise PayloadError(f"{_path(place)} has the key {key!r:.40}; keys are text")
                self.text(key, place, "a key of ")
                self.member(member, (place, key), depth + 1)
                self.entry(key, member, place)
        elif isinstance(value, list | tuple):
            self._check_depth(place, depth)
            self.takes(1 + max(1, len(value)))  # brackets and commas
            for index, member in enumerate(value):
                self.member(member, (place, index), depth + 1)
        else:
            raise PayloadError(
                f"{_path(place)} is a {type(value).__name__}; "
                f"allowed are None, bool, int, float, str, list, tuple and dict"
            )

    def _check_depth(self, place: Place, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise PayloadError(f"{_path(place):.60}… is nested deeper than {MAX_DEPTH} levels")

    def text(self, value: str, place: Place, what: str = "") -> None:
        """Check a text, or a key of what lies at `place`."""
        self.takes(2 + len(value))
        if "\x00" in value:
            raise PayloadError(f"{what}{_path(place)} contains a NUL character, which PostgreSQL can't store")
        if not value.isascii() and _SURROGATE.search(value):
            raise PayloadError(
                f"{what}{_path(place)} contains a lone surrogate, which isn't valid Unicode text"
            )

    def number(self, value: float, place: Place) -> None:
        """Check a number with a fraction or an exponent."""
        self.takes(3)
        if not math.isfinite(value):
            raise PayloadError(f"{_path(place)} is {value}; JSON numbers are finite")

    def entry(self, key: str, value: object, place: Place) -> None:
        """Check a member of an object by its key."""

    def takes(self, size: int) -> None:
        """Count bytes that the JSON text has at least."""


class _PayloadCheck(_Check):
    """Holds a payload against its bounds as well, and stops where they are exceeded."""

    def __init__(self, max_bytes: int, url_hosts: Collection[str]) -> None:
        # By so many characters numbers grow in PostgreSQL, which writes all their digits.
        self.digits_more = 0
        self._least_size = 0
        self._max_bytes = max_bytes
        self._url_hosts = url_hosts

    def takes(self, size: int) -> None:
        self._least_size += size
        if self._least_size > self._max_bytes:
            raise PayloadTooLarge(self._least_size, self._max_bytes, is_least=True)

    def number(self, value: float, place: Place) -> None:
        super().number(value, place)
        text = float.__repr__(value)
        if "e" in text:
            more = len(f"{Decimal(text):f}") - len(text)
            self.digits_more += more
            self.takes(more)

    def entry(self, key: str, value: object, place: Place) -> None:
        if key == "url" or key.endswith("_url"):
            _check_url(value, (place, key), self._url_hosts)


def _path(place: Place) -> str:
    steps: list[str] = []
    while place is not None:
        place, step = place
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step:.40}")
    return "$" + "".join(reversed(steps))


def _check_url(value: Any, place: Place, url_hosts: Collection[str]) -> None:
    if value is None or value == "":
        return
    if not isinstance(value, str) or not (
        _RELATIVE_URL.fullmatch(value) or _is_allowed_https(value, url_hosts)
    ):
        raise PayloadError(
            f"{_path(place)} must be a path on this site ('/…') "
            f"or an https URL on a host listed in ORGREALTIME['URL_HOSTS']"
        )


def _is_allowed_https(value: str, url_hosts: Collection[str]) -> bool:
    if re.search(r"[\\\s\x00-\x1f\x7f]", value) or not value.startswith("https://"):
        return False
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return "@" not in parts.netloc and host is not None and host in {allowed.lower() for allowed in url_hosts}
