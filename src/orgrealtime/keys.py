"""Primary keys of users and organisations: what their columns hold, and the names under which they are told apart.

A key has several looks: the value that a model has (`usr_7`), the one that its column holds (7), and a text. Only the
second is the same whoever has loaded or written it, so it is what keys are compared by and what is stored in JSON.
"""

from __future__ import annotations

import contextlib
import functools
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from orgrealtime.conf import organization_model
from orgrealtime.protocol.keys import name_of

INTEGER_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
HEX_TYPE = "char(32)"  # in which Django keeps UUIDs where there is no type for them

StoredKey = int | str


class KeyValueError(ValueError):
    """A value isn't one that the column of a key can hold."""


@dataclass(frozen=True, slots=True)
class _Column:
    """What values a column takes, told from its type: integers of so many `bits`, UUIDs, or texts."""

    bits: int | None
    is_plain: bool  # an integer is held as it is: the field is one of Django's own
    has_uuids: bool
    is_native_uuid: bool
    max_length: int | None

    def is_own(self, text: str) -> bool:
        """Tell whether a text is certainly meant as a value of this column, and not as a key's text."""
        if self.bits is not None:
            return INTEGER.fullmatch(text) is not None
        return self.has_uuids and UUID.fullmatch(text) is not None

    def take(self, value: Any) -> StoredKey:
        """Return a value of this column in the form that all of them have; raise KeyValueError for any other value."""
        if isinstance(value, bool | float) or value is None:
            raise KeyValueError(f"{value!r} is no key")
        if self.bits is not None:
            return self._take_integer(value)
        text = str(value)
        if self.has_uuids and UUID.fullmatch(text):
            return str(uuid.UUID(text))
        if self.is_native_uuid or "\x00" in text or len(text) > (self.max_length or len(text)):
            raise KeyValueError(f"{text!r:.60} can't be held by the column")
        text.encode()
        return text

    def _take_integer(self, value: Any) -> int:
        if type(value) is not int and not INTEGER.fullmatch(str(value)):
            raise KeyValueError(f"{value!r:.60} is no integer")
        most = 1 << ((self.bits or 0) - 1)
        if not -most <= int(value) < most:
            raise KeyValueError(f"{value!r:.60} can't be held by the column")
        return int(value)

    def give(self, stored: StoredKey) -> StoredKey:
        """Return a stored key as the column holds it."""
        is_hex = self.has_uuids and not self.is_native_uuid and UUID.fullmatch(str(stored))
        return str(stored).replace("-", "") if is_hex else stored


def _target(field: Any) -> models.Field[Any, Any]:
    """The field whose values a field has: of a foreign key that to which it leads."""
    while field.remote_field is not None:
        field = field.target_field
    target: models.Field[Any, Any] = field
    return target


@functools.lru_cache(maxsize=64)
def _column(field: models.Field[Any, Any], alias: str) -> _Column:
    connection = connections[alias]
    kind = str(field.rel_db_type(connection))
    bits = INTEGER_BITS.get(kind.removesuffix(" unsigned"))
    return _Column(
        bits=bits,
        is_plain=bits is not None and type(field).__module__ == models.Field.__module__,
        has_uuids=kind == ("uuid" if connection.features.has_native_uuid_field else HEX_TYPE),
        is_native_uuid=kind == "uuid",
        max_length=field.max_length if isinstance(field, models.CharField) else None,
    )


@dataclass(frozen=True, slots=True)
class Keys:
    """The primary keys of a model."""

    model: type[models.Model]

    @property
    def field(self) -> models.Field[Any, Any]:
        """The field that makes the keys: of a child of another model it is the parent's."""
        return _target(self.model._meta.pk)

    def is_of_family(self, instance: object) -> bool:
        """Tell whether this is an instance of the model, its proxies, what it is a proxy of, or its children."""
        concrete = self.model._meta.concrete_model
        return concrete is not None and isinstance(instance, concrete)

    def of(self, instance: Any) -> Any:
        """Return the key of an instance of the model's family; that of a child may be another than the child's own."""
        return getattr(instance, self.model._meta.pk.attname)

    def stored(self, key: Any, using: str | None = None) -> StoredKey:
        """Return what the column holds for a key, as a JSON value; raises whatever comes of what is no key."""
        alias = using or _alias()
        column = _column(self.field, alias)
        if type(key) is int and column.is_plain:  # asked for many at once
            return column.take(key)
        return column.take(self._prepared(key, alias))

    def stored_or_text(self, key: Any) -> StoredKey:
        """Return what the column holds for a key; for what is no key a text that the column never holds for one."""
        try:
            return self.stored(key)
        except Exception:  # whatever a host's field makes of it
            return key if isinstance(key, str) else f"{type(key).__name__} {key}"

    def read(self, value: Any, using: str | None = None) -> StoredKey:
        """Return the stored key that a value of a stored list stands for; raises KeyValueError if it can't be one.

        It may also be the text of a key, where the column can't hold that.
        """
        if not isinstance(value, int | str):
            raise KeyValueError(f"{value!r:.60} is no key")
        alias = using or _alias()
        column = _column(self.field, alias)
        if isinstance(value, str) and not column.is_own(value):
            with contextlib.suppress(Exception):  # a host's field may raise anything
                return column.take(self._prepared(self.field.to_python(value), alias))
        return column.take(value)

    def column_value(self, stored: StoredKey, connection: BaseDatabaseWrapper) -> StoredKey:
        """Return a stored key as a parameter of SQL."""
        return _column(self.field, connection.alias).give(stored)

    def loaded(self, connection: BaseDatabaseWrapper) -> Callable[[Any], Any]:
        """Return a function that makes what the column has given into a key, as loading an instance does."""
        column = self.field.get_col(self.field.model._meta.db_table)
        converters = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]

        def load(value: Any) -> Any:
            for convert in converters:
                value = convert(value, column, connection)
            return value

        return load

    def name(self, key: Any) -> str:
        """Return a short name of a key, for groups of the channel layer, hints, indexes and counters."""
        return name_of(str(self.stored_or_text(key)))

    def _prepared(self, key: Any, alias: str) -> Any:
        return self.field.get_db_prep_value(key, connections[alias], prepared=False)


def can_hold(field: models.Field[Any, Any], value: Any, alias: str) -> bool:
    """Tell whether the column of a field can hold what a text stands for, so that a database may be asked for it."""
    try:
        prepared = field.get_db_prep_value(value, connections[alias], prepared=False)
        column = _column(_target(field), alias)
        return column.bits is None or column.take(prepared) is not None
    except Exception:  # whatever a host's field makes of it
        return False


def user_keys() -> Keys:
    """Return the keys of the user model."""
    return _keys_of(settings.AUTH_USER_MODEL)


def organization_keys() -> Keys:
    """Return the keys of the organisation's model."""
    return _keys_of(organization_model())


@functools.lru_cache(maxsize=8)
def _keys_of(model: str) -> Keys:
    return Keys(apps.get_model(model))


def _alias() -> str:
    return router.db_for_write(apps.get_model("orgrealtime", "NotificationEvent"))
