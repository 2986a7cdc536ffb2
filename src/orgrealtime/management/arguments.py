"""Finding what the arguments of commands name, or saying that it isn't there."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db import models

from orgrealtime.adapters import resolve


def find_organization(slug: str) -> models.Model:
    """Return the organisation with this slug; raise CommandError if there is none."""
    organization = resolve(slug)
    if organization is None:
        raise CommandError(f"there is no organisation with the slug {slug!r}")
    return organization


def find_users(names: list[str]) -> list[Any]:
    """Return the users with these usernames; raise CommandError for names of which there is no user."""
    model = get_user_model()
    users = list(model._default_manager.filter(**{f"{model.USERNAME_FIELD}__in": names}))
    if missing := sorted(set(names) - {user.get_username() for user in users}):
        raise CommandError(f"there is no user {', '.join(missing)}")
    return users
