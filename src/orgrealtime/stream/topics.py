"""Topics: parts of a stream that some members see alone, and who grants them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, Exists, OuterRef, Subquery, Value, When
from django.db.models.functions import Coalesce

from orgrealtime.keys import organization_keys, user_keys
from orgrealtime.models import NotificationEvent, Stream
from orgrealtime.stream import database
from orgrealtime.stream.access import UNNUMBERED, Access, Topics


def number_of(event_id: str) -> Case:
    """Return the expression for a provider's `from_seq`: the number of the event whose primary key a field has."""
    event = NotificationEvent.objects.filter(pk=OuterRef(event_id))
    return Case(
        When(Exists(event.filter(seq=None)), then=None),
        default=Coalesce(Subquery(event.values("seq")), Value(0), output_field=models.BigIntegerField()),
        output_field=models.BigIntegerField(),
    )


class TopicProvider:
    """Tells who has which topics, by rows: as a room's members do. Give an instance to `register_topics`.

    A topic begins with an event that `grants` it and ends with one that `withdraws` it, published in the transaction
    that changes the rows: a connection changes its access when it passes them, and the rows count for those to come.
    """

    def queryset(self) -> models.QuerySet[Any]:
        """Return all rows, with at least the values `organization_id`, `user_id`, `topic` and `from_seq`.

        `from_seq` is the number of the event that granted the topic, NULL while that has none: what comes before it
        isn't seen. It is 0 if there was none, or if it has been pruned. `number_of` makes it out of the event's key. Of
        several rows for the same topic of a user the one counts that begins first.
        """
        raise NotImplementedError


COLUMNS = ("organization_id", "user_id", "topic", "from_seq")

_providers: list[TopicProvider] = []


def register_topics(provider: TopicProvider) -> None:
    """Ask a provider for the topics of every user from now on; call it in `AppConfig.ready`."""
    if not isinstance(provider, TopicProvider):
        raise TypeError(f"register_topics() takes an instance of TopicProvider, not {provider!r:.60}")
    _providers.append(provider)


def has_providers() -> bool:
    """Tell whether there can be topics at all."""
    return bool(_providers)


def topics_of(
    pairs: Collection[tuple[Any, Any]], using: str | None = None
) -> dict[tuple[Any, Any], tuple[Topics, int]]:
    """Return the topics that (organisation id, user id) pairs have now, by one query.

    With each come the number of the organisation's stream as of which they hold.
    """
    connection = connections[using or database.alias()]
    organization_ids, user_ids = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    # In one snapshot with the rows: what is granted or withdrawn after these heads is passed by those who ask.
    heads = f"""
        SELECT organization_id, NULL, NULL, head FROM {Stream._meta.db_table}
        WHERE organization_id IN ({", ".join(["%s"] * len(organization_ids))})
    """
    prepare = Stream._meta.pk.get_db_prep_value
    parts = [(heads, [prepare(each, connection) for each in organization_ids])]
    for provider in _providers:
        rows = provider.queryset().filter(organization_id__in=organization_ids, user_id__in=user_ids)
        parts.append(_selected(rows, connection))
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(sql for sql, _ in parts), [each for _, params in parts for each in params]
        )
        found = cursor.fetchall()
    return _of_pairs(pairs, found, connection)


def _of_pairs(
    pairs: Collection[tuple[Any, Any]], rows: Iterable[tuple[Any, ...]], connection: BaseDatabaseWrapper
) -> dict[tuple[Any, Any], tuple[Topics, int]]:
    organization_of, user_of = organization_keys().loaded(connection), user_keys().loaded(connection)
    heads: dict[Any, int] = {}
    topics: dict[tuple[Any, Any], dict[str, int]] = {pair: {} for pair in pairs}
    for organization_id, user_id, topic, seq in rows:
        organization = organization_of(organization_id)
        if topic is None:
            heads[organization] = seq
        elif (pair := (organization, user_of(user_id))) in topics:
            of_one = topics[pair]
            of_one[topic] = min(of_one.get(topic, UNNUMBERED), UNNUMBERED if seq is None else seq)
    return {pair: (found, heads.get(pair[0], 0)) for pair, found in topics.items()}


def _selected(
    rows: models.QuerySet[Any], connection: BaseDatabaseWrapper, *columns: str
) -> tuple[str, list[Any]]:
    """Return the statement that selects columns of rows, and its parameters."""
    query = rows.using(connection.alias).order_by().values_list(*(columns or COLUMNS)).query
    sql, params = query.get_compiler(connection=connection, elide_empty=False).as_sql()
    return f"SELECT * FROM ({sql}) AS selected", list(params)


def with_topics(accesses: Iterable[Access], using: str | None = None) -> list[Access]:
    """Return accesses with the topics that their users have now."""
    accesses = list(accesses)
    if not _providers or not accesses:
        return accesses
    found = topics_of({(each.organization_id, each.user_id) for each in accesses}, using)
    return [each.with_topics(*found[each.organization_id, each.user_id]) for each in accesses]


def read_topics(text: str | None) -> Topics:
    """Return the topics that a page tells, from the text of a JSON object."""
    found: dict[str, int | None] = json.loads(text or "{}")
    return {topic: UNNUMBERED if seq is None else seq for topic, seq in found.items()}


def granted(access: Access, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]] | None:
    """Return the statement that selects `topic` and `from_seq` of one user, and its parameters; None if there are no
    topics."""
    parts: list[str] = []
    params: list[Any] = []
    for provider in _providers:
        rows = provider.queryset().filter(organization_id=access.organization_id, user_id=access.user_id)
        if access.only_topic is not None:
            rows = rows.filter(topic=access.only_topic)
        sql, its_params = _selected(rows, connection, "topic", "from_seq")
        parts.append(sql)
        params += its_params
    if not parts:
        return None
    # Whoever has a topic by several rows gets its events once.
    every = " UNION ALL ".join(parts)
    return f"SELECT topic, min(from_seq) AS from_seq FROM ({every}) AS provided GROUP BY topic", params
