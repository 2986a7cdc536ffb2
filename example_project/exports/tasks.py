import logging
import tempfile
import time

from celery import shared_task
from django.conf import settings

from exports import services, sheet
from exports.models import Export

logger = logging.getLogger(__name__)

# Steps of a second at most: each renews the lease.
STEPS = max(20, round(settings.EXPORT_SECONDS))


class AskedToFail(Exception):
    """Somebody wanted to see an export fail."""


@shared_task(name="exports.run_export", ignore_result=True)
def run_export(job_id: str, *, to_fail: bool = False) -> None:
    """Make the file of a queued export. Run twice for one export, the second does nothing."""
    export = services.claim(job_id)
    if export is None:
        return
    try:
        make(export, to_fail=to_fail)
    except services.LeaseLost:
        logger.warning("export ended by somebody else", extra={"job_id": job_id})
    except Exception:
        logger.exception("export failed", extra={"job_id": job_id})
        services.fail(export)


def make(export: Export, *, to_fail: bool) -> None:
    # A file without a name is gone with its process, whatever happens to that.
    with tempfile.TemporaryFile() as content:
        for done in sheet.write(content, rows_of(export), STEPS):
            services.report(export, done * 100 // STEPS)
            if to_fail and done > STEPS // 2:
                raise AskedToFail
            # The tasks of a demo would be written before anybody sees the bar.
            time.sleep(settings.EXPORT_SECONDS / STEPS)
        content.seek(0)
        services.finish(export, content)


def rows_of(export: Export) -> list[sheet.Row]:
    tasks = export.organization.tasks.all()
    return [
        (task.title, task.get_status_display(), task.updated_at.isoformat(" ", "seconds")) for task in tasks
    ]
