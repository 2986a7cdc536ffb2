"""What is written by statements that Django has no words for, and what every service begins with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from django.apps import apps
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Combinable

from orgrealtime import publishers
from orgrealtime.chat.errors import ChatError
from orgrealtime.chat.models import Room
from orgrealtime.conf import organization_model
from orgrealtime.errors import PayloadError
from orgrealtime.keys import organization_keys, user_keys
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.keys import key_as_json
from orgrealtime.stream import database

M = TypeVar("M", bound=models.Model)
Condition = models.QuerySet[Any]


def alias() -> str:
    """Return the alias of the database of the streams, in which the rooms are, too."""
    return database.alias()


def organization_key(organization: Any) -> Any:
    """Return the primary key of an organisation, which may be given by it."""
    return organization_keys().of(organization) if isinstance(organization, models.Model) else organization


def user_key(user: models.Model) -> Any:
    """Return the primary key of a user."""
    return user_keys().of(user)


def as_organization(key: Any) -> models.Model:
    """Return an instance with a primary key, to publish with."""
    organization: models.Model = apps.get_model(organization_model())(pk=key)
    return organization


def insert(
    instance: M,
    *,
    conflict: str,
    expressions: Mapping[str, str | Combinable] | None = None,
    only_if: Iterable[models.QuerySet[Any]] = (),
    unless: Iterable[models.QuerySet[Any]] = (),
) -> M | None:
    """Insert a row and return it; None if there is one already with the columns of `conflict`, or a query says no.

    One statement. `expressions` give columns that the database is to compute; each query of `only_if` must find rows
    when the row is inserted, and none of `unless` may.
    """
    using = alias()
    connection = connections[using]
    model = type(instance)
    columns, parts, params = [], [], []
    for field in model._meta.concrete_fields:
        if field.primary_key:
            continue
        columns.append(str(field.column))
        given = (expressions or {}).get(field.attname)
        if given is None:
            parts.append("%s")
            params.append(field.get_db_prep_save(getattr(instance, field.attname), connection))
        elif isinstance(given, str):
            parts.append(given)
        else:
            sql, its_params = model._base_manager.using(using).query.get_compiler(using).compile(given)
            parts.append(sql)
            params += its_params
    conditions = ["1 = 1"]
    for queries, word in ((only_if, "EXISTS"), (unless, "NOT EXISTS")):
        for query in queries:
            sql, its_params = _compiled(query, connection)
            conditions.append(f"{word} ({sql})")
            params += its_params
    sql = (
        f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) SELECT {', '.join(parts)} "
        f"WHERE {' AND '.join(conditions)} ON CONFLICT {conflict} DO NOTHING "
        f"RETURNING {', '.join(str(field.column) for field in model._meta.concrete_fields)}"
    )
    return next(iter(model._base_manager.using(using).raw(sql, params)), None)


def _compiled(query: models.QuerySet[Any], connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
    sql, params = query.query.get_compiler(connection=connection).as_sql()
    return sql, list(params)


def publish(
    room: Room, type: str, payload: Mapping[str, Any], *, pk: int | None = None, **options: Any
) -> None:
    """Publish an event of a room, by default in its topic; `pk` is its primary key, if that has been drawn."""
    using = alias()
    options.setdefault("topic", room.topic)
    try:
        event: NotificationEvent = publishers.prepare(
            as_organization(room.organization_id), type, {"room": room.pk, **payload}, using=using, **options
        )
    except PayloadError as error:
        raise ChatError("bad_request", str(error)) from error
    event.pk = pk
    publishers.keep(event, using)


def as_keys(users: Iterable[Any]) -> list[int | str]:
    """Return the primary keys of users as they travel."""
    return [key_as_json(user) for user in users]


def stored_key(user: Any) -> int | str:
    """Return what the column of a user's primary key holds; for an instance, or a key however it is written."""
    keys = user_keys()
    if isinstance(user, models.Model):
        return keys.stored(user_key(user), alias())
    return keys.read(user, alias()) if isinstance(user, int | str) else keys.stored(user, alias())


def pk_of(stored: int | str) -> Any:
    """Return the primary key that a model has for what its column holds."""
    connection = connections[alias()]
    keys = user_keys()
    return keys.field.to_python(keys.loaded(connection)(keys.column_value(stored, connection)))


def checked_id(field: str, value: Any) -> int:
    """Return the primary key of a row of this app; raise ChatError for what can be none."""
    if type(value) is not int or not 0 < value < 2**63:
        raise ChatError("bad_request", f"{field} is a whole number, not {value!r:.60}")
    return value
