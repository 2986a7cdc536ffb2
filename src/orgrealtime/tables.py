"""Which tables are those of users and organisations, where tenants have PostgreSQL schemas of their own.

In a tenant's schema the name of a table may mean another one than that to which the streams refer, with other users
under the same keys.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from orgrealtime.conf import organization_model
from orgrealtime.models import Ticket

# django-tenants and its like: all apps of tenants, or those of each kind of tenant, the shared ones among them.
APPS_OF_TENANTS = "TENANT_APPS"
APPS_BY_KIND = ("TENANT_TYPES", "TENANTS")

# Whether each foreign key of the tickets refers to what the name of the table means on this connection, and whether
# there is more than one table of such a name.
SAME_TABLES = """
SELECT
    (SELECT bool_and(c.confrelid = to_regclass(CASE a.attname WHEN %(column)s THEN %(user)s ELSE %(organization)s END))
     FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.contype = 'f' AND c.conrelid = to_regclass(%(ticket)s)),
    EXISTS (SELECT FROM pg_class WHERE relname = ANY(%(names)s) AND relkind IN ('r', 'p', 'f', 'v', 'm')
            GROUP BY relname HAVING count(*) > 1)
"""
ASK_AGAIN_SECONDS = 60.0  # while no name has two tables

_ask_again_at: dict[str, float] = {}


def of_tenants(membership_models: Iterable[type[models.Model]]) -> list[str]:
    """Return the labels of the models that must be one for all tenants, but have a table in each tenant's schema."""
    names = set(_apps_of_tenants())
    return [model._meta.label for model in _shared(membership_models) if names & _names_of(model)]


def _apps_of_tenants() -> Iterator[str]:
    yield from getattr(settings, APPS_OF_TENANTS, ())
    public = getattr(settings, "PUBLIC_SCHEMA_NAME", "public")
    for name in APPS_BY_KIND:
        kinds = getattr(settings, name, {})
        for kind, given in kinds.items() if isinstance(kinds, dict) else ():
            if kind != public and isinstance(given, dict):
                yield from given.get("APPS", ())


def _shared(membership_models: Iterable[type[models.Model]]) -> Iterator[type[models.Model]]:
    yield Ticket
    yield apps.get_model(organization_model())
    yield get_user_model()
    yield from membership_models
    # A store may have no table, or there may be no sessions at all.
    with contextlib.suppress(AttributeError, ImportError, RuntimeError):
        yield import_module(settings.SESSION_ENGINE).SessionStore.get_model_class()


def _names_of(model: type[models.Model]) -> set[str]:
    config = apps.get_app_config(model._meta.app_label)
    return {config.name, f"{type(config).__module__}.{type(config).__name__}"}


def are_those_of_the_streams() -> bool:
    """Tell whether users and organisations, on the connection of this thread, are those to which the streams refer.

    Asks PostgreSQL: once a minute while each name has one table only, then a search path can't change what it means.
    """
    connection = connections[router.db_for_read(get_user_model())]
    if connection.vendor != "postgresql" or time.monotonic() < _ask_again_at.get(connection.alias, 0.0):
        return True
    are_the_same, are_ambiguous = _ask(connection)
    if not are_ambiguous:
        _ask_again_at[connection.alias] = time.monotonic() + ASK_AGAIN_SECONDS
    return are_the_same is not False  # None: without constraints nothing is known


def _ask(connection: BaseDatabaseWrapper) -> tuple[bool | None, bool]:
    user, organization = get_user_model()._meta, apps.get_model(organization_model())._meta
    quote = connection.ops.quote_name
    parameters: dict[str, Any] = {
        "column": Ticket._meta.get_field("user").column,
        "user": quote(user.db_table),
        "organization": quote(organization.db_table),
        "ticket": quote(Ticket._meta.db_table),
        "names": [user.db_table, organization.db_table],
    }
    with connection.cursor() as cursor:
        cursor.execute(SAME_TABLES, parameters)
        answer: tuple[bool | None, bool] = cursor.fetchone()
    return answer
