"""Primary keys of hosts: their text isn't what a database holds, or is more than a browser or a layer takes."""

from __future__ import annotations

import itertools
import os
import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

KIND = os.environ.get("HOST_KEYS", "prefixed")
BEYOND_JAVASCRIPT = 844_197_938_335_842_305

_numbers = itertools.count()


class PrefixedKey(models.BigAutoField):
    """`usr_7`, kept as 7."""

    def __init__(self, *args: Any, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "prefix": self.prefix}

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else f"{self.prefix}_{value}"

    def to_python(self, value: Any) -> Any:
        if value is not None and not str(value).startswith(f"{self.prefix}_"):
            raise ValidationError(f"{value!r} is no key")
        return value

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else int(str(value).removeprefix(f"{self.prefix}_"))


class PrefixedUUID(models.UUIDField):
    """`usr_` and the digits of a UUID, kept as a UUID; sessions have the digits alone."""

    def __init__(self, *args: Any, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        super().__init__(*args, **{**kwargs, "default": self.new})

    def new(self) -> str:
        return f"{self.prefix}_{uuid.uuid4().hex}"

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("default", None)
        return name, path, args, {**kwargs, "prefix": self.prefix}

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return self.to_python(value)

    def to_python(self, value: Any) -> Any:
        if value is None:
            return None
        return f"{self.prefix}_{self._digits(value)}"

    def value_to_string(self, obj: Any) -> str:
        return self._digits(self.value_from_object(obj))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return (
            None if value is None else super().get_db_prep_value(uuid.UUID(self._digits(value)), connection)
        )

    def _digits(self, value: Any) -> str:
        return str(value).removeprefix(f"{self.prefix}_").replace("-", "")

    def get_prep_value(self, value: Any) -> Any:
        return value


def big_number() -> int:
    return BEYOND_JAVASCRIPT + next(_numbers)


def long_text() -> str:
    return f"{next(_numbers)}: Zürich, {uuid.uuid4()} ".ljust(200, "é")


def key(prefix: str) -> models.Field[Any, Any]:
    """The field of a primary key of the kind that `HOST_KEYS` names."""
    match KIND:
        case "prefixed":
            return PrefixedKey(primary_key=True, prefix=prefix)
        case "prefixed_uuid":
            return PrefixedUUID(primary_key=True, prefix=prefix)
        case "uuid":
            return models.UUIDField(primary_key=True, default=uuid.uuid4)
        case "big":
            return models.BigIntegerField(primary_key=True, default=big_number)
        case "text":
            return models.CharField(primary_key=True, max_length=200, default=long_text)
    raise ValueError(KIND)
