"""Gives each new organisation its stream, so that the first reader finds it."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router, transaction
from django.db.models.signals import post_save

from orgrealtime import stream
from orgrealtime.conf import organization_model
from orgrealtime.models import Stream


def connect_receivers() -> None:
    """Listen to organisations being created."""
    try:
        model = apps.get_model(organization_model())
    except (ImproperlyConfigured, LookupError, ValueError):
        return  # a system check says so
    post_save.connect(_organization_saved, sender=model, dispatch_uid="orgrealtime.organization_saved")


def _organization_saved(instance: models.Model, using: str, created: bool, **kwargs: Any) -> None:  # noqa: FBT001
    if created:
        # After the commit and robust: those that miss it (bulk_create, a table not migrated yet) get theirs when read.
        # A lambda, because Django can't report the failure of a partial: it would reach the caller.
        target, key = router.db_for_write(Stream, instance=instance), instance.pk
        transaction.on_commit(lambda: stream.create(key, target), using=using, robust=True)
