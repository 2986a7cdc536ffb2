"""Signals of the host's models: a new organisation gets its stream; what may end access is told to the hubs at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router, transaction
from django.db.models.signals import ModelSignal, m2m_changed, post_delete, post_save, pre_delete

from orgrealtime import stream
from orgrealtime.adapters import get_adapter
from orgrealtime.conf import organization_model
from orgrealtime.delivery import bell
from orgrealtime.keys import organization_keys, user_keys
from orgrealtime.models import Stream

LOGIN_FIELDS = frozenset({"last_login"})


def connect_receivers() -> None:
    """Listen to organisations, memberships, users and logouts."""
    user_logged_out.connect(_logged_out, dispatch_uid="orgrealtime.logout")
    _listen(get_user_model(), _user_changed)
    with contextlib.suppress(ImproperlyConfigured, LookupError, ValueError):  # a system check says so
        _listen(apps.get_model(organization_model()), _organization_changed)
    listen_to_memberships(_membership_changed)


def listen_to_memberships(receiver: Callable[[Change], None]) -> None:
    """Call a receiver with each membership that is saved, and with each that is about to be deleted."""
    try:
        membership_models = get_adapter().membership_models()
    except (ImproperlyConfigured, ImportError, LookupError, ValueError):
        return  # a system check says so
    for model in membership_models:
        # Before the deletion: afterwards nothing tells whose membership it was.
        _listen(model, receiver, pre_delete)
        _listen_to_many(model, receiver)


class Change(NamedTuple):
    """What has been done to an instance of a model that is listened to."""

    instance: Any
    using: str
    is_new: bool
    fields: Collection[str] | None  # that were saved; None: all


def _listen(
    model: type[models.Model], receiver: Callable[[Change], None], deleted: ModelSignal = post_delete
) -> None:
    """Call a receiver with what is done to instances of a model, by whatever class of its family."""

    def hear(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
        is_new = bool(kwargs.get("created"))
        found = _as_instance_of(model, instance, using, is_new=is_new)
        if found is not None:
            receiver(Change(found, using, is_new, kwargs.get("update_fields")))

    for sender in apps.get_models():
        if _is_family(sender, model):
            uid = f"{receiver.__module__}.{receiver.__name__}.{model._meta.label}.{sender._meta.label}"
            post_save.connect(hear, sender=sender, weak=False, dispatch_uid=f"{uid}.saved")
            deleted.connect(hear, sender=sender, weak=False, dispatch_uid=f"{uid}.deleted")


def _listen_to_many(model: type[models.Model], receiver: Callable[[Change], None]) -> None:
    """Hear what a many-to-many field does to the rows of a model by itself, without the signals of models."""

    def hear(sender: Any, instance: Any, action: str, using: str, **kwargs: Any) -> None:
        if action in {"pre_remove", "pre_clear"}:
            for row in _rows(sender, instance, using, **kwargs):
                receiver(Change(row, using, is_new=False, fields=None))

    for sender in apps.get_models(include_auto_created=True):
        if _is_family(sender, model):
            uid = f"orgrealtime.rows.{receiver.__module__}.{model._meta.label}.{sender._meta.label}"
            m2m_changed.connect(hear, sender=sender, weak=False, dispatch_uid=uid)


def _rows(
    through: Any, instance: Any, using: str, *, reverse: bool, model: Any, pk_set: Any, **kwargs: Any
) -> models.QuerySet[Any]:
    """Return the rows of a many-to-many field that are about to go: those of an instance with `pk_set`, or all."""
    fields = (model if reverse else type(instance))._meta.many_to_many
    field = next(each for each in fields if each.remote_field.through is through)
    own, other = field.m2m_field_name(), field.m2m_reverse_field_name()
    if reverse:
        own, other = other, own
    rows: models.QuerySet[Any] = through._base_manager.using(using).filter(**{own: instance})
    return rows if pk_set is None else rows.filter(**{f"{other}_id__in": pk_set})


def _is_family(sender: type[models.Model], model: type[models.Model]) -> bool:
    """Tell whether saving by `sender` may change a row of `model`: proxies, children and parents do.

    The sender of a signal is the class by which a row was saved, and no other.
    """
    one, other = sender._meta.concrete_model, model._meta.concrete_model
    return bool(one and other and (issubclass(one, other) or issubclass(other, one)))


def _as_instance_of(
    model: type[models.Model], instance: models.Model, using: str, *, is_new: bool
) -> models.Model | None:
    """Return the instance, or, if it is one of a parent of the model, the row of the model that belongs to it."""
    child, parent = model._meta.concrete_model, type(instance)._meta.concrete_model
    if child is None or parent is None or isinstance(instance, child):
        return instance
    link = child._meta.get_ancestor_link(parent)
    if is_new or link is None:
        return None
    return child._base_manager.using(using).filter(**{f"{link.name}__pk": instance.pk}).first()


def _logged_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    if user is not None:
        _check_after_commit(user.pk, None)


def _user_changed(change: Change) -> None:
    # Not at every login, which saves this one field.
    if not change.is_new and (change.fields is None or not LOGIN_FIELDS.issuperset(change.fields)):
        _check_after_commit(user_keys().of(change.instance), change.using)


def _membership_changed(change: Change) -> None:
    if not change.is_new:
        for user_id in get_adapter().users_of(change.instance):
            _check_after_commit(user_id, change.using)


def _organization_changed(change: Change) -> None:
    # The key is taken now: a deleted instance loses it.
    key = organization_keys().of(change.instance)
    if change.is_new:
        # After the commit and robust: an organisation that misses it (bulk_create, a table not migrated yet) gets its
        # stream when that is read.
        # A lambda, because Django can't report the failure of a partial: it would reach the caller.
        target = router.db_for_write(Stream, instance=change.instance)
        transaction.on_commit(lambda: stream.create(key, target), using=change.using, robust=True)
    else:
        transaction.on_commit(partial(bell.check_organization, key), using=change.using, robust=True)


def _check_after_commit(user_id: Any, using: str | None) -> None:
    transaction.on_commit(partial(bell.check_user, user_id), using=using, robust=True)
