"""Typed events: what a host registers here is held at `publish`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from orgrealtime.errors import EventTypeError, PayloadError
from orgrealtime.protocol.wire import RESERVED_TYPES

T = TypeVar("T", bound=type)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}", re.ASCII)
_schemas: dict[str, type] = {}


def register(event_type: str, schema: type | None = None) -> Any:
    """Register the shape of an event type: a dataclass, TypedDict or msgspec Struct.

    Use it as a call, `register("task_event", TaskEvent)`, or as a decorator, `@register("task_event")`.
    Raises EventTypeError for a name that can't be published or that another class has.
    """
    if schema is None:
        decorator: Callable[[T], T] = lambda decorated: register(event_type, decorated)  # noqa: E731
        return decorator
    check_name(event_type)
    if _schemas.get(event_type, schema) is not schema:
        raise EventTypeError(
            f"the event type {event_type!r} is already registered with {_schemas[event_type]}"
        )
    _schemas[event_type] = schema
    return schema


def unregister(event_type: str) -> None:
    """Forget an event type; a type that isn't registered is fine."""
    _schemas.pop(event_type, None)


def check_name(event_type: object) -> str:
    """Return the name of an event type; raise EventTypeError if it can't be one."""
    if not isinstance(event_type, str) or not _NAME.fullmatch(event_type):
        raise EventTypeError(
            f"{event_type!r:.60} can't be an event type: a letter, then letters, digits and _ . : -, at most 100 in all"
        )
    if event_type in RESERVED_TYPES:
        raise EventTypeError(
            f"{event_type!r} is a frame of the protocol; an event type may not be one of {sorted(RESERVED_TYPES)}"
        )
    return event_type


def fit(event_type: str, payload: Any, *, strict: bool) -> Any:
    """Return the payload as plain values after holding it against its schema.

    An instance of the registered class may be given instead of a dict. Raises PayloadError naming the field that
    doesn't fit, EventTypeError for a type that isn't registered while `strict` is on.
    """
    schema = _schemas.get(event_type)
    if schema is None:
        if strict:
            raise EventTypeError(
                f"the event type {event_type!r} isn't registered, and ORGREALTIME['STRICT_TYPES'] is on; "
                f"register it with orgrealtime.events.register"
            )
        return payload
    if not isinstance(payload, dict) and _is_instance(payload, schema):
        payload = _plain(event_type, payload)
    try:
        msgspec.convert(payload, schema)
    except msgspec.ValidationError as error:
        raise PayloadError(f"the payload doesn't fit {event_type!r}: {error}") from None
    return payload


def _plain(event_type: str, instance: object) -> Any:
    try:
        return msgspec.to_builtins(instance)
    except TypeError as error:
        raise PayloadError(
            f"the payload of {event_type!r} has a value that JSON can't hold: {error}"
        ) from None


def _is_instance(payload: object, schema: type) -> bool:
    try:
        return isinstance(payload, schema)
    except TypeError:  # a TypedDict has no instances
        return False
