"""Typed events: what a host registers here is held at `publish`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from orgrealtime.conf import get_settings
from orgrealtime.errors import EventTypeError, PayloadError
from orgrealtime.protocol.payloads import RESERVED_KEYS, check_least_size
from orgrealtime.protocol.wire import RESERVED_TYPES

T = TypeVar("T", bound=type)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}", re.ASCII)
PLAIN = (str, int, float, list, tuple, dict)
OBJECTS = (
    inspect.StructType,
    inspect.DataclassType,
    inspect.TypedDictType,
    inspect.DictType,
    inspect.AnyType,
)

NO_JSON = (inspect.ExtType, inspect.RawType)
SETS = (inspect.SetType, inspect.FrozenSetType)
ARRAYS = (inspect.CollectionType, inspect.TupleType, inspect.NamedTupleType)
UNHASHABLE = (inspect.ListType, inspect.SetType, inspect.DictType, inspect.TypedDictType)

_schemas: dict[str, type] = {}
_unread: set[str] = set()  # types whose schema names classes that weren't there yet when it was registered


def register(event_type: str, schema: type | None = None) -> Any:
    """Register the shape of an event type: a dataclass, TypedDict or msgspec Struct.

    Use it as a call, `register("task_event", TaskEvent)`, or as a decorator, `@register("task_event")`.
    Raises EventTypeError for a name that can't be published or that another class has, and for a shape that no payload
    could have. A class that names others which are defined only later is looked at when it is first used.
    """
    if schema is None:
        decorator: Callable[[T], T] = lambda decorated: register(event_type, decorated)  # noqa: E731
        return decorator
    check_name(event_type)
    if _schemas.get(event_type, schema) is not schema:
        raise EventTypeError(
            f"the event type {event_type!r} is already registered with {_schemas[event_type]}"
        )
    _unread.discard(event_type)
    try:
        _check_schema(event_type, schema)
    except NameError:
        _unread.add(event_type)
    _schemas[event_type] = schema
    return schema


def unregister(event_type: str) -> None:
    """Forget an event type; a type that isn't registered is fine."""
    _schemas.pop(event_type, None)
    _unread.discard(event_type)


def unusable() -> Iterator[str]:
    """Yield what is wrong with each registered type whose schema can't be read even now."""
    for event_type in sorted(_unread):
        try:
            _read_now(event_type)
        except EventTypeError as error:
            yield str(error)


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
    doesn't fit, PayloadTooLarge if that shows before, EventTypeError for a type that isn't registered while `strict` is
    on or whose schema can't be read.
    """
    schema = _schemas.get(event_type)
    if schema is None:
        if strict:
            raise EventTypeError(
                f"the event type {event_type!r} isn't registered, and ORGREALTIME['STRICT_TYPES'] is on; "
                f"register it with orgrealtime.events.register"
            )
        return payload
    if event_type in _unread:
        _read_now(event_type)
    check_least_size(payload, get_settings().MAX_PAYLOAD_BYTES)
    if not isinstance(payload, dict) and _is_instance(payload, schema):
        payload = _plain(event_type, payload)
    try:
        msgspec.convert(payload, schema, str_keys=True)
    except msgspec.ValidationError as error:
        raise PayloadError(f"the payload doesn't fit {event_type!r}: {error}") from None
    except TypeError as error:  # of a list, say, that the schema wants in a set
        raise PayloadError(f"the payload doesn't fit {event_type!r}: {error}") from error
    return payload


def _plain(event_type: str, instance: object) -> Any:
    try:
        return msgspec.to_builtins(instance, str_keys=True)
    except TypeError as error:
        raise PayloadError(
            f"the payload of {event_type!r} has a value that JSON can't hold: {error}"
        ) from None


def _is_instance(payload: object, schema: type) -> bool:
    try:
        return isinstance(payload, schema)
    except TypeError:  # a TypedDict has no instances
        return False


def _read_now(event_type: str) -> None:
    try:
        _check_schema(event_type, _schemas[event_type])
    except NameError as error:
        raise _bad_schema(event_type, str(error)) from error
    _unread.discard(event_type)


def _check_schema(event_type: str, schema: type) -> None:
    """Raise EventTypeError unless msgspec can hold JSON objects against a schema, NameError where a name is missing."""
    try:
        shape = inspect.type_info(schema)
    except NameError:
        raise
    except Exception as error:  # msgspec documents none, and reading annotations may raise any
        raise _bad_schema(event_type, str(error)) from error
    if RESERVED_KEYS.intersection(getattr(each, "tag_field", None) or "" for each in _alternatives(shape)):
        raise _bad_schema(event_type, "the tag_field of its Struct is a key that is reserved for the frame")
    for place, part in _parts(shape, "$", set()):
        if isinstance(part, inspect.Field) and part.required and part.encode_name in RESERVED_KEYS:
            if place == f"$.{part.encode_name}":
                raise _bad_schema(event_type, f"its key {part.encode_name!r} is reserved for the frame")
        elif isinstance(part, inspect.CustomType) and not _is_plain(part.cls, PLAIN):
            raise _bad_schema(event_type, f"{place} is {part.cls!r:.100}, which msgspec doesn't know")
        elif isinstance(part, NO_JSON):
            raise _bad_schema(event_type, f"{place} is of a type that JSON doesn't have")
        elif isinstance(part, inspect.DictType) and not any(map(_is_key, _alternatives(part.key_type))):
            raise _bad_schema(event_type, f"the keys of {place} can't be the text that JSON has for keys")
        elif isinstance(part, SETS) and not any(map(_is_hashable, _alternatives(part.item_type))):
            raise _bad_schema(event_type, f"{place} is a set of what can't be in a set")
    if not any(map(_takes_objects, _alternatives(shape))):
        raise _bad_schema(event_type, "it isn't a shape of JSON objects")


def _bad_schema(event_type: str, why: str) -> EventTypeError:
    return EventTypeError(
        f"the event type {event_type!r} can't be held against its schema: {why}; allowed is a dataclass, TypedDict or "
        f"msgspec Struct, with fields of types that msgspec supports"
    )


def _alternatives(shape: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(shape, inspect.Metadata):
        return _alternatives(shape.type)
    return shape.types if isinstance(shape, inspect.UnionType) else (shape,)


def _takes_objects(shape: inspect.Type) -> bool:
    if isinstance(shape, inspect.CustomType):
        return _is_plain(shape.cls, (dict,))
    return isinstance(shape, OBJECTS) and not getattr(shape, "array_like", False)


def _is_key(shape: inspect.Type) -> bool:
    return isinstance(shape, inspect.AnyType) or not isinstance(shape, (*OBJECTS, *ARRAYS))


def _is_hashable(shape: inspect.Type) -> bool:
    return (
        not isinstance(shape, UNHASHABLE)
        and getattr(getattr(shape, "cls", None), "__hash__", True) is not None
    )


def _is_plain(cls: Any, kinds: tuple[type, ...]) -> bool:
    """Tell whether a value of these kinds can be an instance of a class, as of Hashable or of a subclass of str."""
    try:
        return any(issubclass(kind, cls) or issubclass(cls, kind) for kind in kinds)
    except TypeError:  # a Protocol without @runtime_checkable
        return False


def _parts(part: Any, place: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the fields and types of which a shape is made, each once, with a place where it stands."""
    if id(part) in seen:
        return
    seen.add(id(part))
    yield place, part
    inside = (
        place if isinstance(part, inspect.Field | inspect.UnionType | inspect.Metadata) else f"{place}[…]"
    )
    for name in part.__struct_fields__:
        held = getattr(part, name)
        for each in held if isinstance(held, tuple) else (held,):
            if isinstance(each, inspect.Field):
                yield from _parts(each, f"{place}.{each.encode_name}", seen)
            elif isinstance(each, inspect.Type):
                yield from _parts(each, inside, seen)
