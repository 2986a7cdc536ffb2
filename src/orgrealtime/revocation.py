"""What may end somebody's access, and telling the hubs about it at once."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction
from django.db.models.signals import post_delete, post_save

from orgrealtime import bell
from orgrealtime.adapters import get_adapter

LOGIN_FIELDS = frozenset({"last_login"})


def connect_receivers() -> None:
    """Listen to what ends access: memberships, users, logouts."""
    user_logged_out.connect(_logged_out, dispatch_uid="orgrealtime.logout")
    post_save.connect(_user_changed, sender=get_user_model(), dispatch_uid="orgrealtime.user_saved")
    post_delete.connect(_user_changed, sender=get_user_model(), dispatch_uid="orgrealtime.user_deleted")
    try:
        membership_models = get_adapter().membership_models()
    except (ImproperlyConfigured, ImportError, LookupError):
        return  # a system check says so
    for model in membership_models:
        post_save.connect(
            _membership_changed, sender=model, dispatch_uid=f"orgrealtime.{model._meta.label}.saved"
        )
        post_delete.connect(
            _membership_changed, sender=model, dispatch_uid=f"orgrealtime.{model._meta.label}.deleted"
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


def _check_after_commit(user_id: Any, using: str | None) -> None:
    transaction.on_commit(partial(bell.check_user, user_id), using=using, robust=True)
