"""Signals of the host's models: a new organisation gets its stream; what may end access is told to the hubs at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router, transaction
from django.db.models.signals import post_delete, post_save

from orgrealtime import stream
from orgrealtime.adapters import get_adapter
from orgrealtime.conf import organization_model
from orgrealtime.delivery import bell
from orgrealtime.models import Stream

LOGIN_FIELDS = frozenset({"last_login"})


def connect_receivers() -> None:
    """Listen to organisations, memberships, users and logouts."""
    user_logged_out.connect(_logged_out, dispatch_uid="orgrealtime.logout")
    _listen(get_user_model(), _user_changed)
    with contextlib.suppress(ImproperlyConfigured, LookupError, ValueError):  # a system check says so
        model = apps.get_model(organization_model())
        post_save.connect(_organization_saved, sender=model, dispatch_uid="orgrealtime.organization_saved")
        _listen(model, _organization_changed)
    try:
        membership_models = get_adapter().membership_models()
    except (ImproperlyConfigured, ImportError, LookupError, ValueError):
        return  # a system check says so
    for model in membership_models:
        _listen(model, _membership_changed)


def _listen(model: type[models.Model], receiver: Callable[..., None]) -> None:
    # Proxies and children too: the sender of a signal is the class by which the row was saved.
    for sender in apps.get_models():
        if issubclass(sender, model):
            post_save.connect(receiver, sender=sender, dispatch_uid=f"orgrealtime.{sender._meta.label}.saved")
            post_delete.connect(
                receiver, sender=sender, dispatch_uid=f"orgrealtime.{sender._meta.label}.deleted"
            )


def _logged_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    if user is not None:
        _check_after_commit(user.pk, None)


def _user_changed(sender: Any, instance: Any, using: str, **change: Any) -> None:
    # Not at every login, which saves this one field.
    fields = change.get("update_fields")
    if not change.get("created") and (fields is None or not LOGIN_FIELDS.issuperset(fields)):
        _check_after_commit(instance.pk, using)


def _membership_changed(sender: Any, instance: models.Model, using: str, **change: Any) -> None:
    if not change.get("created"):
        _check_after_commit(get_adapter().user_of(instance), using)


def _organization_saved(instance: models.Model, using: str, created: bool, **kwargs: Any) -> None:  # noqa: FBT001
    if created:
        # After the commit and robust: an organisation that misses it (bulk_create, a table not migrated yet) gets its
        # stream when that is read.
        # A lambda, because Django can't report the failure of a partial: it would reach the caller.
        target, key = router.db_for_write(Stream, instance=instance), instance.pk
        transaction.on_commit(lambda: stream.create(key, target), using=using, robust=True)


def _organization_changed(sender: Any, instance: models.Model, using: str, **change: Any) -> None:
    if not change.get("created"):
        # Its key is taken now: a deleted instance loses it.
        transaction.on_commit(partial(bell.check_organization, instance.pk), using=using, robust=True)


def _check_after_commit(user_id: Any, using: str | None) -> None:
    transaction.on_commit(partial(bell.check_user, user_id), using=using, robust=True)
