"""The frames of protocol version 1 as JSON text, and the reading of what clients send."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

import msgspec

from orgrealtime.protocol.errors import CloseCode, MessageError, PayloadError
from orgrealtime.protocol.payloads import check_value

PROTOCOL = 1
SUBPROTOCOL = "orgrealtime.v1"
SERVER_FRAMES = frozenset({"welcome", "batch", "synced", "cursor", "reset", "pong", "error", "going_away"})
CLIENT_FRAMES = frozenset({"ping", "ack"})
MAX_TYPE = 100  # characters
MAX_REF = 100  # characters
RESERVED_TYPES = SERVER_FRAMES | CLIENT_FRAMES

Ref = str | int | float | None

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode


class _Typed(msgspec.Struct):
    type: str


class _Referring(msgspec.Struct):
    ref: Any = None


class _Ack(msgspec.Struct):
    cursor: str | None = None


_decode_type = msgspec.json.Decoder(_Typed).decode
_decode_ref = msgspec.json.Decoder(_Referring).decode
_decode_ack = msgspec.json.Decoder(_Ack).decode


def encode(frame: dict[str, Any]) -> str:
    """Return a frame as compact JSON text."""
    return msgspec.json.encode(frame).decode()


def encode_event(
    type: str, cursor: str, created_at: datetime.datetime, actor: int | str | None, payload: str
) -> str:
    """Return an event as the client sees it, the payload's members (JSON text) beside the frame's own.

    Raises ValueError (a msgspec error) if `payload` isn't the text of a JSON object.
    """
    members: dict[str, Any] = {**_decode_members(payload)}
    members.update(type=type, cursor=cursor, created_at=created_at, actor=actor)
    first = {key: members.pop(key) for key in ("type", "cursor", "created_at", "actor")}
    return msgspec.json.encode({**first, **members}).decode()


def batch(events: Iterable[str], cursor: str) -> str:
    """Return the frame that carries several encoded events; the client stands at `cursor` after it."""
    return f'{{"type":"batch","events":[{",".join(events)}],"cursor":"{cursor}"}}'


def cursor(cursor: str) -> str:
    """Return the frame that says: up to here there is nothing for you that you don't have."""
    return f'{{"type":"cursor","cursor":"{cursor}"}}'


def synced(cursor: str) -> str:
    """Return the frame that ends the backlog."""
    return f'{{"type":"synced","cursor":"{cursor}"}}'


def reset(cursor: str, reason: str) -> str:
    """Return the frame that says: continuity can't be proved, refetch your state and go on from `cursor`."""
    return encode({"type": "reset", "cursor": cursor, "reason": reason})


def pong(cursor: str) -> str:
    """Return the answer to a ping."""
    return f'{{"type":"pong","cursor":"{cursor}"}}'


def going_away(retry_after: float, window: float) -> str:
    """Return the frame that says: reconnect after `retry_after` and a random part of `window`, both in seconds."""
    return encode(
        {"type": "going_away", "retry_after_ms": round(retry_after * 1000), "window_ms": round(window * 1000)}
    )


def error(code: str, message: str, ref: Ref = None, /, **details: Any) -> str:
    """Return the frame that says that a message failed, whose `ref` it repeats; the connection stays."""
    about = {} if ref is None else {"ref": ref}
    return encode({"type": "error", **about, "error": {**details, "code": code, "message": message}})


def refusal(code: CloseCode, message: str) -> bytes:
    """Return the JSON body of an HTTP answer that refuses a request."""
    return msgspec.json.encode({"error": {"code": code.label, "message": message}})


def read_type(text: str) -> str:
    """Return the type of a client's message, and pass over the rest; raise MessageError for what has none."""
    try:
        kind = _decode_type(text).type
    except msgspec.ValidationError:
        kind = ""
    except (ValueError, RecursionError):
        raise MessageError("a message is one JSON object in a text frame; this isn't valid JSON") from None
    if not 0 < len(kind) <= MAX_TYPE:
        raise MessageError(
            f"a message is a JSON object with a key 'type' whose value is a text of at most {MAX_TYPE} characters"
        )
    return kind


def read_ref(text: str) -> Ref:
    """Return the `ref` of a client's message, None if it has none or isn't JSON; for an answer that refuses it."""
    try:
        return ref_of(_decode_ref(text).ref)
    except (ValueError, RecursionError):
        return None


def ref_of(given: object) -> Ref:
    """Return what a client gave as a `ref` if an answer may repeat it: a text or number of at most 100 characters."""
    is_fit = isinstance(given, str | int | float) and not isinstance(given, bool)
    return given if is_fit and len(str(given)) <= MAX_REF else None  # type: ignore[return-value]


def read_ack(text: str) -> str | None:
    """Return the cursor of an `ack`, whose type has been read; raise MessageError for one that is no text."""
    try:
        return _decode_ack(text).cursor
    except msgspec.ValidationError as error:
        raise MessageError(f"this message isn't acceptable: {error}") from None


def read_message(text: str) -> dict[str, Any]:
    """Return the members of a client's message whose type has been read; raise MessageError for what isn't plain JSON.

    This costs by far more than `read_type`, and what is to be carried out needs it alone.
    """
    try:
        message: dict[str, Any] = _decode_any(text)
        check_value(message)
    except PayloadError as error:
        raise MessageError(f"this message isn't acceptable: {error}") from None
    except (ValueError, RecursionError):
        raise MessageError("one JSON object is needed, and this isn't valid JSON") from None
    return message
