"""What a payload may hold: checked before any SQL, because PostgreSQL would abort the caller's transaction."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from orgrealtime.protocol.errors import PayloadError, PayloadTooLarge

MAX_DEPTH = 32
MAX_SAFE_INTEGER = 2**53 - 1  # RFC 7493 section 2.2: beyond it a browser silently changes the number
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
    check_value(payload)
    _check_urls(payload, "$", url_hosts)
    # As the JSONField will: unlike msgspec it takes subclasses of str, int and float, such as SafeString.
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode()) + _digits_more(payload)
    if size > max_bytes:
        raise PayloadTooLarge(size, max_bytes)
    return text


def _digits_more(value: object) -> int:
    """Return by how many characters numbers with an exponent grow in PostgreSQL, which writes all their digits."""
    if isinstance(value, float):
        text = repr(value)
        return len(f"{Decimal(text):f}") - len(text) if "e" in text else 0
    if isinstance(value, dict):
        return sum(map(_digits_more, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_digits_more, value))
    return 0


def check_value(value: object, path: str = "$", depth: int = 1) -> None:
    """Raise PayloadError unless `value` is plain JSON that PostgreSQL and a browser keep as it is."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, int):
        _check_integer(value, path)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PayloadError(f"{path} is {value}; JSON numbers are finite")
    elif isinstance(value, dict):
        _check_depth(depth, path)
        for key, member in value.items():
            if not isinstance(key, str):
                raise PayloadError(f"{path} has the key {key!r:.40}; keys are text")
            _check_text(key, f"a key of {path}")
            place = f"{path}.{key:.40}"
            check_value(member, place, depth + 1)
    elif isinstance(value, list | tuple):
        _check_depth(depth, path)
        for index, member in enumerate(value):
            check_value(member, f"{path}[{index}]", depth + 1)
    else:
        raise PayloadError(
            f"{path} is a {type(value).__name__}; allowed are None, bool, int, float, str, list, tuple and dict"
        )


def _check_depth(depth: int, path: str) -> None:
    if depth > MAX_DEPTH:
        raise PayloadError(f"{path:.60}… is nested deeper than {MAX_DEPTH} levels")


def _check_integer(value: int, path: str) -> None:
    if abs(value) > MAX_SAFE_INTEGER:
        raise PayloadError(
            f"{path} is an integer beyond ±(2**53 - 1), which browsers can't hold; send it as text"
        )


def _check_text(value: str, path: str) -> None:
    if "\x00" in value:
        raise PayloadError(f"{path} contains a NUL character, which PostgreSQL can't store")
    if _SURROGATE.search(value):
        raise PayloadError(f"{path} contains a lone surrogate, which isn't valid Unicode text")


def _check_urls(value: object, path: str, url_hosts: Collection[str]) -> None:
    if isinstance(value, dict):
        for key, member in value.items():
            place = f"{path}.{key:.40}"
            if key == "url" or key.endswith("_url"):
                _check_url(member, place, url_hosts)
            _check_urls(member, place, url_hosts)
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            _check_urls(member, f"{path}[{index}]", url_hosts)


def _check_url(value: Any, path: str, url_hosts: Collection[str]) -> None:
    if value is None or value == "":
        return
    if not isinstance(value, str) or not (
        _RELATIVE_URL.fullmatch(value) or _is_allowed_https(value, url_hosts)
    ):
        raise PayloadError(
            f"{path} must be a path on this site ('/…') or an https URL on a host listed in ORGREALTIME['URL_HOSTS']"
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
