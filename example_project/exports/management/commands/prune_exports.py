from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from exports.models import Export

KEPT_FOR = timedelta(days=1)


class Command(BaseCommand):
    help = "Delete exports that are older than a day, with their files."

    def handle(self, *args: Any, **options: Any) -> None:
        before = timezone.now() - KEPT_FOR
        finished = Export.objects.exclude(status__in=Export.UNFINISHED)
        count, _ = finished.filter(updated_at__lt=before).delete()
        files = old_files(before)
        for name in files:
            Export.file.field.storage.delete(name)
        self.stdout.write(f"{count} exports and {len(files)} files deleted.")


def old_files(before: Any) -> list[str]:
    """By their age, not by what refers to them: a worker killed at the wrong moment leaves a file that nothing does."""
    storage = Export.file.field.storage
    if not storage.exists("exports"):
        return []
    names = [f"exports/{name}" for name in storage.listdir("exports")[1]]
    return [name for name in names if storage.get_modified_time(name) < before]
