"""Delete old events."""

from __future__ import annotations

import datetime
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from orgrealtime import stream
from orgrealtime.admission import tickets
from orgrealtime.management.arguments import find_organization
from orgrealtime.models import Stream


class Command(BaseCommand):
    """`orgrealtime_prune --days 30 --keep 100000`: deletes what is older, and what exceeds the count."""

    help = "Delete events by age and count, in batches; clients that are further behind are told to reset."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--days", type=float, help="delete events older than this many days")
        parser.add_argument(
            "--keep", type=int, help="keep at most this many of the newest events per organisation"
        )
        parser.add_argument("--org", metavar="SLUG", help="only this organisation")
        parser.add_argument(
            "--batch", type=int, default=1000, help="events deleted per transaction (default: 1000)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune one organisation after the other."""
        if options["days"] is None and options["keep"] is None:
            raise CommandError("say what to delete: --days, --keep or both")
        if (options["days"] or 0) < 0 or (options["keep"] or 0) < 0 or options["batch"] < 1:
            raise CommandError("--days and --keep are at least 0, --batch at least 1")
        before = None if options["days"] is None else self._days_ago(options["days"])
        total = 0
        for organization_id in self._organizations(options["org"]):
            floor = stream.retention_floor(organization_id, before=before, keep=options["keep"])
            if before is not None:
                self._tell_misdated(organization_id, stream.misdated(organization_id, floor, before=before))
            if options["dry_run"]:
                count = stream.count_up_to(organization_id, floor)
                self.stdout.write(f"{organization_id}: {count} events would be deleted")
                continue
            deleted = 0
            for count in stream.prune(organization_id, floor, batch=options["batch"]):
                deleted += count
                self.stderr.write(f"\r{organization_id}: {deleted} events deleted", ending="")
            if deleted:
                self.stderr.write("")
            total += deleted
        if not options["dry_run"]:
            tickets.prune()
            self.stdout.write(f"{total} events deleted")

    def _tell_misdated(self, organization_id: Any, found: stream.PruningReport) -> None:
        if found.future:
            self.stdout.write(
                f"{organization_id}: {found.future} events dated in the future are taken to be as old as "
                "those after them"
            )
        if found.older:
            self.stdout.write(
                f"{organization_id}: {found.older} events or more are kept though they are old enough, because "
                f"event {found.seq} before them is dated {found.moment}"
            )

    def _days_ago(self, days: float) -> datetime.datetime:
        try:
            return timezone.now() - datetime.timedelta(days=days)
        except (OverflowError, ValueError):
            raise CommandError(f"--days {days:g} is before the beginning of the calendar") from None

    def _organizations(self, slug: str | None) -> Iterable[Any]:
        if slug is None:
            # Not by `iterator()`: a pooler may give its cursor on the server to somebody else between two rows.
            return Stream.objects.order_by("pk").values_list("pk", flat=True)
        return [find_organization(slug).pk]
