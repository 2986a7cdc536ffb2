"""Which memberships count."""

from __future__ import annotations

from typing import Any

from django.db import models

from orgrealtime.adapters import MembershipAdapter


class Adapter(MembershipAdapter):
    def queryset(self) -> models.QuerySet[Any]:
        return super().queryset().filter(is_paid=True, organization__is_blocked=False)


class CompanyAdapter(Adapter):
    """Finds organisations as their children, which have keys of their own."""

    def find(self, slug: str, user: Any) -> Any:
        found = super().find(slug, user)
        return found and (found[0].company, found[1])
