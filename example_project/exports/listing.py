"""Exports as pages see them."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q
from django.utils.translation import gettext
from tracker.models import Organization

from exports.models import Export
from exports.services import download_url

SHOWN = 3


def shown_to(user: AbstractBaseUser, organization: Organization) -> list[dict[str, Any]]:
    """The newest exports: the files of all members, and what became of one's own."""
    shown = Q(status=Export.Status.DONE) | Q(requested_by=user.pk)
    return [shape(export) for export in organization.exports.filter(shown)[:SHOWN]]


def shape(export: Export) -> dict[str, Any]:
    return {
        "job_id": str(export.pk),
        "status": export.status,
        "progress": export.progress,
        "requested_by": export.requested_by_id,
        "created_at": export.created_at,
        "error": gettext(export.error) if export.error else "",
        "download_url": download_url(export),
    }
