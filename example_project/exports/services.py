"""An export's life: requested, claimed by a worker, reported on, ended. What happened is published from here only."""

from functools import partial
from typing import IO, Any

from django.contrib.auth.models import User
from django.core.files import File
from django.db import transaction
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.translation import gettext_noop
from tracker.models import Membership, Organization

from exports import dispatch
from exports.models import LEASE, QUEUE_LEASE, Export, ExportQuerySet
from orgrealtime import publish

INTERRUPTED = gettext_noop("The export was interrupted. Please try again.")
NOT_STARTED = gettext_noop("The export could not be started. Please try again later.")
WENT_WRONG = gettext_noop("Something went wrong while the file was written. Please try again.")


class LeaseLost(Exception):
    """The export has been ended by somebody else; whoever still works on it is to stop."""


def request_export(organization: Organization, user: User, *, to_fail: bool = False) -> Export:
    """Start an export for this member, or return the one of theirs that is under way.

    `to_fail` is for seeing what a failing export looks like. Raises Membership.DoesNotExist.
    """
    with transaction.atomic():
        # Locked, so that the second of two clicks finds the export of the first.
        Membership.objects.select_for_update().get(organization=organization, user=user)
        under_way = Export.objects.unfinished().filter(organization=organization, requested_by=user).first()
        if under_way is not None:
            return under_way
        export = Export.objects.create(
            organization=organization, requested_by=user, lease_until=Now() + QUEUE_LEASE
        )
        transaction.on_commit(partial(start, export.pk, to_fail=to_fail))
    return export


def start(job_id: Any, *, to_fail: bool) -> None:
    """Hand a committed export to a worker; it ends as failed if there is no way to one."""
    try:
        dispatch.start(str(job_id), to_fail=to_fail)
    except dispatch.NoWorker:
        end(Export.objects.filter(pk=job_id), Export.Status.FAILED, error=NOT_STARTED)


def claim(job_id: str) -> Export | None:
    """Take a queued export over; None if it isn't queued any more, or not there."""
    mine = Export.objects.filter(pk=job_id, status=Export.Status.QUEUED)
    if not mine.update(status=Export.Status.RUNNING, lease_until=Now() + LEASE, updated_at=Now()):
        return None
    return Export.objects.select_related("organization", "requested_by").get(pk=job_id)


def report(export: Export, progress: int) -> None:
    """Renew the lease and tell the requester, and nobody else, how far it has come. Raises LeaseLost."""
    with transaction.atomic():
        mine = Export.objects.filter(pk=export.pk, status=Export.Status.RUNNING)
        if not mine.update(progress=progress, lease_until=Now() + LEASE, updated_at=Now()):
            raise LeaseLost
        payload = {"job_id": str(export.pk), "progress": progress}
        publish(
            export.organization,
            "export_progress",
            payload,
            actor=export.requested_by_id,
            to=export.requested_by_id,
        )


def finish(export: Export, content: IO[bytes]) -> None:
    """Keep the file and tell the organisation. Raises LeaseLost, and then keeps nothing."""
    storage = Export.file.field.storage
    name = storage.save(f"exports/{export.pk}.csv", File(content))
    mine = Export.objects.filter(pk=export.pk, status=Export.Status.RUNNING)
    is_ended = False
    try:
        is_ended = end(mine, Export.Status.DONE, file=name, progress=100)
    finally:
        if not is_ended:
            storage.delete(name)
    if not is_ended:
        raise LeaseLost


def fail(export: Export) -> None:
    """End an export whose making went wrong; nothing happens if it has been ended already."""
    end(Export.objects.filter(pk=export.pk), Export.Status.FAILED, error=WENT_WRONG)


def fail_abandoned() -> int:
    """End the exports whose worker is gone; return how many. Of several who call this one succeeds with each."""
    abandoned = Export.objects.abandoned()
    ids = list(abandoned.values_list("pk", flat=True))
    return sum(end(abandoned.filter(pk=pk), Export.Status.FAILED, error=INTERRUPTED) for pk in ids)


def end(exports: ExportQuerySet, status: Export.Status, **values: Any) -> bool:
    """Give the unfinished export among these its last status and publish it; False if there is none."""
    with transaction.atomic():
        # Whoever waits for this lock finds the condition no longer true, and ends nothing.
        export = exports.unfinished().select_for_update(of=("self",)).select_related("organization").first()
        if export is None:
            return False
        export.status = status
        for name, value in values.items():
            setattr(export, name, value)
        export.save(update_fields=["status", "updated_at", *values])
        payload = {"job_id": str(export.pk), "status": status.value, "download_url": download_url(export)}
        publish(export.organization, "export_done", payload, actor=export.requested_by_id)
    return True


def download_url(export: Export) -> str:
    if export.status != Export.Status.DONE:
        return ""
    return reverse("export-download", args=[export.organization.slug, export.pk])
