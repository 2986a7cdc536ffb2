"""System checks for what hosts of rooms get wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from orgrealtime.chat import conf, rules
from orgrealtime.chat.models import Member, Message, Reaction, Room
from orgrealtime.conf import get_settings
from orgrealtime.stream.database import alias

REST_OF_PAYLOAD = 8_192  # mentions, attachments and the names of members
WRITES_FIRST = ("IMMEDIATE", "EXCLUSIVE")


def register_all() -> None:
    """Register the checks of this app."""
    checks.register(check_chat, "orgrealtime")


def check_chat(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that rooms can work with the settings."""
    try:
        given, core = conf.get_settings(), get_settings()
    except ImproperlyConfigured as error:
        # That of the core has a check of its own.
        return [checks.Error(str(error), id="orgrealtime.E020")] if conf.NAME in str(error) else []
    return [*_check_rules(), *_check_database(), *_check_sizes(given, core.MAX_PAYLOAD_BYTES)]


def _check_rules() -> Iterator[checks.CheckMessage]:
    try:
        rules.get_rules()
    except Exception as error:  # of the host's module, whatever it is
        yield checks.Error(
            f"{conf.NAME}['RULES'] can't be used: {error}",
            hint="Name a subclass of orgrealtime.chat.rules.Rules, whose methods are not async.",
            id="orgrealtime.E021",
        )


def _check_database() -> Iterator[checks.CheckMessage]:
    aliases = {router.db_for_write(model) for model in (Room, Member, Message, Reaction)}
    if aliases != {alias()}:
        yield checks.Error(
            f"Rooms are written to {', '.join(sorted(aliases))} and events to {alias()}: a message and its event can't "
            "be kept in one transaction.",
            hint="Route the models of orgrealtime_chat to the database of those of orgrealtime.",
            id="orgrealtime.E022",
        )
    connection = connections[alias()]
    mode = str(connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED").upper()
    if "sqlite" in connection.settings_dict["ENGINE"] and mode not in WRITES_FIRST:
        yield checks.Warning(
            f"DATABASES[{connection.alias!r}] begins transactions as {mode}: of two messages at the same moment one "
            "fails with 'database is locked'.",
            hint='Set "OPTIONS": {"transaction_mode": "IMMEDIATE"}.',
            id="orgrealtime.W012",
        )


def _check_sizes(given: conf.ChatSettings, max_payload_bytes: int) -> Iterator[checks.CheckMessage]:
    # Quotation marks, backslashes and line feeds take two bytes in JSON.
    needed = 2 * given.MAX_BYTES + REST_OF_PAYLOAD
    if max_payload_bytes < needed:
        yield checks.Error(
            f"ORGREALTIME['MAX_PAYLOAD_BYTES'] is {max_payload_bytes}, but the event of a message of "
            f"{given.MAX_BYTES} bytes ({conf.NAME}['MAX_BYTES']) may take {needed}.",
            hint="Raise the one or lower the other.",
            id="orgrealtime.E023",
        )
    if given.MAX_BYTES < given.MAX_LENGTH:
        yield checks.Warning(
            f"{conf.NAME}['MAX_BYTES'] is below ['MAX_LENGTH']: no text can be as long as that says.",
            hint="A code point takes 1 to 4 bytes: MAX_BYTES = 4 * MAX_LENGTH leaves room for every text.",
            id="orgrealtime.W013",
        )
