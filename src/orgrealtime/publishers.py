"""`publish`: the way of an event from a service function into the stream."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from orgrealtime import events, stream
from orgrealtime.conf import get_settings
from orgrealtime.delivery import bell
from orgrealtime.keys import StoredKey, organization_keys, user_keys
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.payloads import encode_payload
from orgrealtime.signals import event_published

MAX_DEDUPE_KEY = 200
MAX_NAMES = {"topic": 64, "category": 50, "subject": 100}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*", re.ASCII)


def publish(
    organization: models.Model,
    type: str,
    payload: Any,
    *,
    actor: Any = None,
    to: Any = None,
    topic: str | None = None,
    grants: Any = None,
    withdraws: Any = None,
    category: str | None = None,
    subject: str | None = None,
    replaces: bool = False,
    entry: bool = False,
    dedupe_key: str | None = None,
    using: str | None = None,
) -> NotificationEvent:
    """Publish an event to an organisation, as one INSERT in the transaction that is open; it is seen if that commits.

    `payload` is a dict of JSON values. `actor` is the user who caused it, `to` are the users it is for (instances or
    primary keys; default: all members). A `dedupe_key` that the organisation has had before returns the first event.
    `using` is a database alias. Raises PayloadError, EventTypeError, TypeError or ValueError before any SQL.

    With a `topic` the event is for those of them alone whose access has it; it may be one of its counted entries
    (`entry`), and begin or end access to it for users (`grants`, `withdraws`). `category` makes it a notification of
    that kind. `subject` is what it is about; if it `replaces`, nobody gets what events before it said of that.
    """
    _organization_id(organization)  # of what is none no router can be asked
    using = using or router.db_for_write(NotificationEvent, instance=organization)
    event = prepare(
        organization,
        type,
        payload,
        actor=actor,
        to=to,
        topic=topic,
        grants=grants,
        withdraws=withdraws,
        category=category,
        subject=subject,
        replaces=replaces,
        entry=entry,
        dedupe_key=dedupe_key,
        using=using,
    )
    return keep(event, using)


def prepare(
    organization: models.Model,
    type: str,
    payload: Any,
    *,
    using: str,
    actor: Any = None,
    to: Any = None,
    topic: str | None = None,
    grants: Any = None,
    withdraws: Any = None,
    category: str | None = None,
    subject: str | None = None,
    replaces: bool = False,
    entry: bool = False,
    dedupe_key: str | None = None,
) -> NotificationEvent:
    """Return what `publish` would insert, checked and unsaved; raises what that raises before any SQL."""
    settings = get_settings()
    organization_id = _organization_id(organization)
    if topic is None and (entry or grants is not None or withdraws is not None):
        raise ValueError("entry=, grants= and withdraws= are about a topic: give topic= too")
    if subject is None and replaces:
        raise ValueError("replaces= is about a subject: give subject= too")
    event = NotificationEvent(
        organization_id=organization_id,
        type=events.check_name(type),
        payload=events.fit(type, payload, strict=settings.STRICT_TYPES),
        actor_id=None if actor is None else _user_id(actor, "actor", using),
        audience=None if to is None else _audience(to, "to", using),
        topic=_checked_name("topic", topic),
        access_change=_access_change(grants, withdraws, using),
        category=_checked_name("category", category),
        subject=_checked_name("subject", subject),
        replaces=replaces,
        entry=entry,
        dedupe_key=_checked_dedupe_key(dedupe_key),
    )
    encode_payload(event.payload, max_bytes=settings.MAX_PAYLOAD_BYTES, url_hosts=settings.URL_HOSTS)
    return event


def keep(event: NotificationEvent, using: str) -> NotificationEvent:
    """Give a checked event to the publisher of the settings, in the transaction that is open.

    One that has a primary key already, drawn by `stream.draw_event_id` or its expression, is inserted with that.
    """
    publisher: Publisher = import_string(get_settings().PUBLISHER)()
    return publisher.publish(event, using)


async def apublish(
    organization: models.Model,
    type: str,
    payload: Any,
    *,
    actor: Any = None,
    to: Any = None,
    topic: str | None = None,
    grants: Any = None,
    withdraws: Any = None,
    category: str | None = None,
    subject: str | None = None,
    replaces: bool = False,
    entry: bool = False,
    dedupe_key: str | None = None,
    using: str | None = None,
) -> NotificationEvent:
    """Publish from async code; arguments, result and exceptions are the same as of `publish`."""

    def publish_in_thread() -> NotificationEvent:
        # The database connections of this thread aren't looked after as in a request. A connection that the caller has
        # open is kept unless it is broken, for the caller may be reading from it.
        kept = [each for each in connections.all(initialized_only=True) if each.connection is not None]
        for connection in kept:
            _close_if_broken(connection)
        try:
            return publish(
                organization,
                type,
                payload,
                actor=actor,
                to=to,
                topic=topic,
                grants=grants,
                withdraws=withdraws,
                category=category,
                subject=subject,
                replaces=replaces,
                entry=entry,
                dedupe_key=dedupe_key,
                using=using,
            )
        finally:
            if not kept:
                close_old_connections()

    return await sync_to_async(publish_in_thread)()


def _close_if_broken(connection: BaseDatabaseWrapper) -> None:
    if connection.errors_occurred and not connection.in_atomic_block:
        connection.errors_occurred = False
        if not connection.is_usable():
            connection.close()


class Publisher:
    """What `ORGREALTIME["PUBLISHER"]` names: takes an event that has been checked, and keeps it."""

    def publish(self, event: NotificationEvent, using: str) -> NotificationEvent:
        """Keep an unsaved event; return it, or the first event with its `dedupe_key`."""
        raise NotImplementedError


class StreamPublisher(Publisher):
    """Inserts the event into the organisation's stream, and rings the bell after the commit."""

    def publish(self, event: NotificationEvent, using: str) -> NotificationEvent:
        """Insert the event in the transaction that is open on `using`."""
        is_new = stream.append(event, using)

        def committed() -> None:
            bell.ring(event.organization_id)
            if is_new:
                event_published.send_robust(sender=type(self), event=event, using=using)

        # Robust: what goes wrong from here on must not turn a request that has committed into an error.
        transaction.on_commit(committed, using=using, robust=True)
        return event


def _organization_id(organization: models.Model) -> Any:
    keys = organization_keys()
    if not keys.is_of_family(organization):
        raise TypeError(f"publish() needs an instance of {keys.model._meta.label}, not {organization!r:.80}")
    key = keys.of(organization)
    if key is None:
        raise ValueError("the organisation has not been saved yet, so nothing can be published to it")
    return key


def _user_id(user: Any, argument: str, using: str) -> Any:
    keys = user_keys()
    if keys.is_of_family(user):
        key = keys.of(user)
        if key is None:
            raise ValueError(f"{argument}= names a user who has not been saved yet")
        return key
    try:
        if user is None or isinstance(user, bool | float | Decimal | bytes | models.Model):
            raise TypeError
        key = keys.field.to_python(user)
        keys.stored(key, using)  # a number that the column can't hold would stop the numbering
        return key
    except Exception:  # a host's field may raise anything
        raise TypeError(
            f"{argument}= needs {keys.model._meta.label} or its primary key, not {user!r:.60}"
        ) from None


def _audience(to: Any, argument: str, using: str) -> list[StoredKey]:
    members = to if isinstance(to, Iterable) and not isinstance(to, str | bytes) else [to]
    keys = user_keys()
    return list(dict.fromkeys(keys.stored(_user_id(user, argument, using), using) for user in members))


def _access_change(grants: Any, withdraws: Any, using: str) -> dict[str, list[StoredKey]] | None:
    given = {"grants": grants, "withdraws": withdraws}
    change = {name: _audience(users, name, using) for name, users in given.items() if users is not None}
    return change or None


def _checked_name(argument: str, name: Any) -> str | None:
    """Return the name of a topic, a category or a subject."""
    if name is None:
        return None
    most = MAX_NAMES[argument]
    if not isinstance(name, str) or len(name) > most or not NAME.fullmatch(name):
        raise ValueError(
            f"{argument}= is a text of 1 to {most} letters, digits and _ . : -, not {name!r:.60}"
        )
    return name


def _checked_dedupe_key(key: Any) -> str | None:
    if key is None:
        return None
    if (
        not isinstance(key, str)
        or not 0 < len(key) <= MAX_DEDUPE_KEY
        or "\x00" in key
        or not _is_unicode(key)
    ):
        raise ValueError(
            f"dedupe_key= is a text of 1 to {MAX_DEDUPE_KEY} characters without NUL, not {key!r:.60}"
        )
    return key


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
