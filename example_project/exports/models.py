import uuid
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import models
from django.db.models.functions import Now
from tracker.models import Organization

# How long a worker may say nothing, and a queued export wait for one.
LEASE = timedelta(seconds=8)
QUEUE_LEASE = timedelta(seconds=60)


class ExportQuerySet(models.QuerySet["Export"]):
    def unfinished(self) -> "ExportQuerySet":
        return self.filter(status__in=Export.UNFINISHED)

    def abandoned(self) -> "ExportQuerySet":
        return self.unfinished().filter(lease_until__lt=Now())


class Export(models.Model):
    """A file with an organisation's tasks, and how far its making has come.

    Whoever makes progress moves `lease_until` forward, by the database's clock. An unfinished export whose lease has
    run out belongs to nobody any more, and a watchdog ends it.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    UNFINISHED = (Status.QUEUED, Status.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="exports")
    requested_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="exports")
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    progress = models.PositiveSmallIntegerField(default=0, help_text="percent")
    file = models.FileField(upload_to="exports", blank=True)
    error = models.CharField(max_length=200, blank=True, help_text="shown to users")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    lease_until = models.DateTimeField()

    objects = ExportQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.UniqueConstraint(
                fields=["organization", "requested_by"],
                condition=models.Q(status__in=["queued", "running"]),
                name="one_unfinished_export_each",
            ),
        )
        indexes = (
            models.Index(
                fields=["lease_until"],
                condition=models.Q(status__in=["queued", "running"]),
                name="unfinished_exports",
            ),
        )

    def __str__(self) -> str:
        return f"{self.organization}, {self.get_status_display()}"
